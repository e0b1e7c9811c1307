"""The built-in model families, one file a family."""
