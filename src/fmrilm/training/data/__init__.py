"""From cohort folders to batches."""
