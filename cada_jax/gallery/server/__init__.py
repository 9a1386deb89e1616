"""The web server of a gallery: a page, a JSON API, and a queue that owns the device.

`run.serve` starts it. FastAPI, Starlette, uvicorn and prometheus_client come with the extra
`search`; they are imported inside functions.
"""
