"""A pre-trained encoder: what is known of it, how it is loaded, where a task starts from, its features."""
