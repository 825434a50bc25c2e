"""The compiled extension, the choice of backend, and settings: their checks and their text."""
