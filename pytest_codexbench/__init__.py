"""Benchmarks of decentralised storage: real swarms, numbers that anyone can repeat."""

__version__ = "0.1.0"
