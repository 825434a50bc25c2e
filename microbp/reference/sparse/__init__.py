"""Sparse rows for the reference backend."""
