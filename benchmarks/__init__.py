"""Measurements against peers, each a module to run: `python -m benchmarks.NAME [--quick] [--json FILE]`.

`works` says what is trained, `peers` holds one training script per system, `launch` starts them and follows their steps,
`table` prints. Nothing here is imported by the package; `works`, `table` and `peers.torchft_replica` run in the peers' own
environment too, so they know nothing of Springtide. Begin with `steady`.
"""
