"""One training script per system, all with the same arguments (`options`) and the same record of steps (`record`).

`ddp` (torchrun and DistributedDataParallel), `torchft_replica` (torchft), `one_process` (a plain loop) and
`run_springtide` (ours). Each is configured as well as we know how; what was chosen, and why, stands at its top.
"""
