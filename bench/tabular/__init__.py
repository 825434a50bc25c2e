"""The tables and the contenders of `bench/tables.py`."""
