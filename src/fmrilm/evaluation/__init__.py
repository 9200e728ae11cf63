"""Scores, beside their baselines and controls."""
