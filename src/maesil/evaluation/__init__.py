"""What is scored, how, and the tables that come of it."""
