"""Rows with a few of very many columns, and what else learns them. Used by bench/sparse.py and bench/benchmarks."""
