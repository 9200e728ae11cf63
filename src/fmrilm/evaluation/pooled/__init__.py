"""Several runs together: folds, people, seeds."""
