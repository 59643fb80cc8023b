"""A model's life after its training: versions in a registry, the server that answers with them, and the gate between.

Imports `spec`, `core`, `data` and `train`. Begin with `registry` (what a version is), then `server` (who answers).
"""
