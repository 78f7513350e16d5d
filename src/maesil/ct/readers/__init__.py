"""Readers: a file or folder on disk to a `Volume` in HU, or a `ScanError` that says what is wrong with it."""
