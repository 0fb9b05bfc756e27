"""What is computed on a whole split, in validation and in test: one file per evaluator."""
