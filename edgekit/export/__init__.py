"""Converters to model files, one file a format."""
