"""Comparisons, sweeps, and what runs them."""
