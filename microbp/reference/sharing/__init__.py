"""Who may use a network of the reference backend at a time."""
