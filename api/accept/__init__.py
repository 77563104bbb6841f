"""The accept path: a raw ASGI route in front of FastAPI, from bytes to COMMIT with as little between as possible."""
