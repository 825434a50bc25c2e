"""Readers of tables: files and data frames become columns by name."""
