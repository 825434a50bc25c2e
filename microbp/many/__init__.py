"""Several networks at once."""
