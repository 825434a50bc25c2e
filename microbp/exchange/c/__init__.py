"""Networks as C files that need no library."""
