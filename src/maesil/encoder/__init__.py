"""Pre-trained encoders: their description, loading them, the starting point of a task, and their features."""
