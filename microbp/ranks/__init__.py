"""Several processes as one: what they exchange, and how the failure of one reaches the others."""
