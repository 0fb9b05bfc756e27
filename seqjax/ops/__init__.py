"""Numerics as pure functions of arrays: no flax, and state only as arguments and results."""
