"""Benchmarks: each one command, each a ratio or a count measured against a peer or a baseline in the same run."""
