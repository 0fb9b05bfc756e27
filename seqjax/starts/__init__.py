"""Configs to start from, which `seqjax new` copies: one file each, whole and runnable, its comments for the user."""
