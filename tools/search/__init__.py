"""Measures search on generated people: against the evaluation, and what its options do."""
