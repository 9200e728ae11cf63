"""Synthetic cohorts with planted effects of known size."""
