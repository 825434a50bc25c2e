"""Trains a network on a file or a data frame."""
