"""One trainer of a backend, with its losses: steps and gradients, and nothing of epochs."""
