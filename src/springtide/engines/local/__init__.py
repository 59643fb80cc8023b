"""The engine of one machine: replicas are processes in control groups, each job under a small parent of its own.

Begin with `engine` (what the pool calls), then `shim` (the parent, which outlives the pool) and `state` (the files by
which the two find each other again). `spawn` makes a process, `sockets` hands listening sockets around, `logs` keeps
what replicas write, `admin` asks services how they are, `training` is the process of a training job and `arenas` reads
what it does. What is limited and measured: `cgroups`, `machine`, `gpus`, `measure`, `scratch`, `people`.
"""
