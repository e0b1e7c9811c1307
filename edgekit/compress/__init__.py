"""Compression passes, Keras model in, Keras model out."""
