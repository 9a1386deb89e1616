"""Captions: cleaning, WordPiece and attribute phrases."""
