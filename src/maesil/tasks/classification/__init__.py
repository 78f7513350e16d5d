"""Classification on a pre-trained encoder."""
