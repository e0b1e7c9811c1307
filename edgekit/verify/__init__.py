"""Parity of sessions or recorded outputs."""
