"""Benchmarks and statistical checks; what is timed is compared with its peer in the same run."""
