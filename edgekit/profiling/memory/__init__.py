"""Memory of a model on a target: activations in an arena, scratch buffers, and flash."""
