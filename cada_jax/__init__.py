"""CADA in JAX: find the images of a person from a description in words."""
