"""Configs to start from, which `seqjax new` copies: one complete file each, with comments for the user."""
