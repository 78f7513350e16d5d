"""Benchmarks anyone can run from a clone: ``python -m benchmarks step|data|prepare|infer``; see README.md."""
