"""Frozen settings: optimizers, schedules, averages, metrics."""
