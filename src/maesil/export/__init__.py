"""Exporting a pre-trained encoder to the formats of other tools: one module per target."""
