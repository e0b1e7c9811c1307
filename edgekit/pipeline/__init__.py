"""The stages of a recipe, their cache and their resumption."""
