"""The processes that train together, and which rows each of them trains on."""
