"""Immutable settings: optimizers, schedules, averages, metrics."""
