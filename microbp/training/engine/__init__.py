"""One trainer of a backend, with its losses: steps and gradients. It knows nothing about epochs."""
