"""Comparisons with PyTorch behind tools/check_parity.py."""
