"""Whole files for the reference backend."""
