"""Measures of series and of connectivity."""
