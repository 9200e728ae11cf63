"""The closer look at a score: confounds, groups, other splits."""
