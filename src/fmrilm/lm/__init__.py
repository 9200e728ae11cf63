"""The language model, and how scans get into it."""
