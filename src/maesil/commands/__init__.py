"""One module per command: its words and its help; the work is `maesil.pipeline`'s.

Each imports the pipeline after it has read its words: a wrong one is told before Lightning and the rest are loaded.
"""
