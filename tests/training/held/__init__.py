"""Outside code, as a user would bring it, that a test can hold at a chosen place."""
