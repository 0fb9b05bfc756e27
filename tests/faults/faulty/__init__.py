"""Outside code, as a user would bring it, with something wrong in it."""
