"""Model families and where models come from."""
