"""Comparisons of models: equal data, masks and budget, one protocol, one set of tables."""
