"""Metrics: how well a fit reconstructs, how well samples match the data."""
