"""Cohorts that are made here: the real demo cohorts, synthetic people, folds."""
