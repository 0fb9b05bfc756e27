"""Converters of recurrent weights, one file per library: `read` (its weights -> our params) and `write` (back)."""
