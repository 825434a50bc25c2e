"""Trains models of tables, saves and loads them, and uses them."""
