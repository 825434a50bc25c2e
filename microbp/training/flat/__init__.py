"""Solvers on any function of a vector."""
