"""Benchmarks: each compares with its peer in the same run."""
