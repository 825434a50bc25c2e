"""Training on several processes, for the reference backend."""
