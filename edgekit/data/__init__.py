"""Datasets, their splits and their preprocessing."""
