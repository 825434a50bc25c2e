"""The speed of the kernels, and what the machine can do."""
