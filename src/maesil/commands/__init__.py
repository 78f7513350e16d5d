"""One module per command: its arguments and its help text; `maesil.pipeline` does the work.

Each command imports the pipeline only after parsing its arguments, so a wrong one is reported before Lightning loads.
"""
