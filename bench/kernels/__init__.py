"""The speed of the kernels, and the limits of the machine."""
