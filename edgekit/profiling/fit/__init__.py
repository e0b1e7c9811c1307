"""Fits of targets to measurements, and how far their predictions are off."""
