"""Sparse files as rows for networks."""
