"""Converts anything that contains numbers to the arrays and rows that a backend reads."""
