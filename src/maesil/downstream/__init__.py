"""Pre-trained encoders at work: what reads a store, trains a task on it, and scores it."""
