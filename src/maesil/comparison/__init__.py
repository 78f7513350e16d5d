"""Models against each other: equal data, masks and budget, one protocol, one set of tables."""
