"""Nodes with several positions: images and sequences."""
