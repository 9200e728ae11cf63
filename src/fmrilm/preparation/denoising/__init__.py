"""What is taken out of a series: confounds, censored volumes, filters."""
