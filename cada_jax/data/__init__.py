"""Data sets, their preparation, and the batches made of them."""
