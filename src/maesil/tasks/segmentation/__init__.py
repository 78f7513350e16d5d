"""Segmentation on a pre-trained encoder."""
