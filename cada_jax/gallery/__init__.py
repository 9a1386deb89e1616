"""Search of one's own pictures: index, search, serve. Needs `pip install -e .[search]`."""
