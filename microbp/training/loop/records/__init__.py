"""Records of epochs, and who gets them: callbacks, the progress line, history files."""
