"""Nodes, layers and networks."""
