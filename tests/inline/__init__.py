"""Executors for tests."""
