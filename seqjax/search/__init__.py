"""Comparisons, sweeps, and the executors that run them."""
