"""The pool over HTTP: JSON under /v1, one table of routes from which the OpenAPI document is made as well.

Imports the rest of `pool`, Starlette and msgspec. Begin with `routes` (the table), then `app` (what happens to every
request: who asks, how often, what may be read, how an error is said), `gate` (who asks) and `shapes` (what is said).
"""
