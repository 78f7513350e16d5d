"""Reports: figures in three views, and a page that opens from disk."""
