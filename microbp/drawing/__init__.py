"""Axes, legends and texts of plots."""
