"""What is released: manifest, packing, gates."""
