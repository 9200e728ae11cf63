"""Parcellations: their regions, and the label images they come from."""
