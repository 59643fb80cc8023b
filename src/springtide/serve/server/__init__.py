"""The model server: versions of the registry behind HTTP, swapped without a lost or mixed answer.

`python -m springtide.serve.server --model NAME`. Imports `spec`, `data.streams`, `train`'s torch-free modules and the
rest of `serve`. Begin with `model` (one name, its versions, the swap), then `batching` (who is computed with whom:
pure), then `protocol` and `plain` (bytes in, bytes out), then `app` (the routes) and `process` (sockets and signals).
"""
