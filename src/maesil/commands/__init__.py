"""One module per command: its words and its help; the work is `maesil.pipeline`'s."""
