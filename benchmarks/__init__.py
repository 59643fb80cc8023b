"""Measurements against peers, each a module to run: `python -m benchmarks.NAME [--quick] [--json FILE]`.

`works` says what is trained, `peers` holds one training script per system, `launch` starts them and follows their
steps, `table` prints. The package imports nothing from here. `works` and `peers` also run in the environment of
the peers, where there is no Springtide: only `peers.*_springtide` import it. Begin reading with `steady`.
"""
