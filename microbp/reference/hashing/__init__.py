"""Hashes of texts and ids."""
