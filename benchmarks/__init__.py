"""Benchmarks to run from a clone: ``python -m benchmarks step|data|prepare|infer|scaling``; see README.md."""
