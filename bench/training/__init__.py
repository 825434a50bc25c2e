"""Readers of data sets, for scripts of this folder and for `bench/tables.py`."""
