"""Measurements of aiomsal beside its rivals, each pair in one run: `python -m benchmarks [name ...] [--json FILE]`."""
