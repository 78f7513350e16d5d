"""A pre-trained encoder in the formats that other tools read: one file per target."""
