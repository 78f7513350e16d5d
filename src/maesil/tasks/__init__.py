"""Downstream tasks of a pre-trained encoder."""
