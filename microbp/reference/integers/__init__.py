"""Networks of whole numbers."""
