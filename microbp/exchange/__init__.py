"""Converts models from and to other formats."""
