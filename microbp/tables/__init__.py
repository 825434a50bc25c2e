"""Tables of a file or a data frame, and how they become a trained network."""
