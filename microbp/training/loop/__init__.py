"""The loop of fit over epochs, with validation, early stopping, checkpoints and callbacks."""
