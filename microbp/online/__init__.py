"""Streams of single rows: a model that learns from dicts, one at a time."""
