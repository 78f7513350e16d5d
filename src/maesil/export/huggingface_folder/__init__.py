"""Files that the export for Hugging Face copies as they are: they run where transformers is installed, maesil not."""
