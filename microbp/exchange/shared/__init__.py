"""What writers of several formats use."""
