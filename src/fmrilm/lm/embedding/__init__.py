"""Embeddings of texts, which stage 1 aligns scans with."""
