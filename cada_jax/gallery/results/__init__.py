"""What a search found, as text, JSON, paths, one picture or one page."""
