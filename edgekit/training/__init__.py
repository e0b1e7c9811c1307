"""Fit, fine-tune, evaluate; the Keras session, the reference of every parity check."""
