"""A cohort folder: series, people, splits, scaling and what is read of them."""
