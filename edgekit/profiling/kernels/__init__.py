"""What a kernel takes by its shape: measured tables, and interpolation between their rows."""
