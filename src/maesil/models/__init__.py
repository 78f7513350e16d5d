"""Models trained by reconstruction, behind one contract."""
