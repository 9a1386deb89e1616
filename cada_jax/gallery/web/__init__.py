"""The web server of a gallery: a page, a JSON API, and a queue that owns the device.

`commands.serve` runs it. FastAPI, uvicorn and prometheus_client come with the extra `search`;
this package alone imports them.
"""
