"""The control plane: what users asked for is kept, planned, carried out and told.

Imports `spec`, `core`, `train` (no torch) and `engines`. Begin with `loop` (observe, snapshot, plan, apply, record),
`lifecycle` (what becomes of a job, pure), `store` (what is kept) and `api/` (how it is asked).
"""
