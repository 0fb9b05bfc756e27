"""Recurrent weights from and to other libraries: one file each, with `read` (theirs -> params) and `write` (back)."""
