"""What a person looks at: figures in three views, and one page that opens from disk."""
