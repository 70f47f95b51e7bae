"""Tabs Sample and Fit."""
