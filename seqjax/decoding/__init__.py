"""Continues prompts with a causal model, with or without a source: one file per decoder."""
