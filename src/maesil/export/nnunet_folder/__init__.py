"""Files that the export for nnU-Net copies as they are: they run where nnU-Net is installed and maesil is not."""
