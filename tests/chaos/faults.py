"""A training script with something wrong: `tide run faults.py FAULT STEPS [FOLDER]`.

What is to happen once only leaves a file in FOLDER.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import no_compiler
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, TensorDataset, random_split

from springtide import train

fault, steps = sys.argv[1], int(sys.argv[2])
folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path()
AT = 20


def first(name: str) -> bool:
    """True in one process, once."""
    try:
        os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def one_worker_eats_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20) * 32))


def in_the_loop() -> None:
    """At microbatch 1 of step 20, in whoever is at it."""
    if fault == "raise":
        raise ValueError("a label is wrong")
    if fault == "memory" and first("eaten"):
        one_worker_eats_memory()
    if fault == "raise once" and first("raised"):
        raise ValueError("a label is wrong once")
    if fault == "exit" and first("left"):
        os._exit(7)
    if fault == "busy" and first("busy"):
        sum(range(100_000_000))  # one call into the interpreter, which it holds all the while: no heartbeat
    if fault == "sleep" and first("asleep"):
        time.sleep(3600)
    if fault == "frozen" and first("frozen"):
        ctypes.PyDLL(None).sleep(3600)  # holds the interpreter: neither heartbeat nor CPU time


def data() -> Dataset[tuple[torch.Tensor, ...]]:
    x = torch.randn(256, 8)
    if fault == "other data":
        x[17, 3] += 1.0
    whole = TensorDataset(x, x.sum(1, keepdim=True))
    if fault == "unseeded split":
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
        return random_split(whole, [200, 56], generator)[0]
    return whole


no_compiler.install()
print("before the loop", flush=True)
torch.manual_seed(1)
dataset = data()
if fault == "thread" or (fault == "unseeded split" and "cold" in sys.argv):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
width = 3_000_000 if fault == "large" else 24 if fault == "other model" else 16
model = nn.Sequential(nn.Linear(8, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
if fault == "no run":
    raise SystemExit(0)
run = train.Run(
    model, optimizer, dataset, batch_size=1000 if fault == "few samples" else 16,
    microbatches=3 if fault == "microbatches" else 4, steps=steps, seed=2,
    hang_timeout_seconds=2.0 if fault == "sleep" else None,
)  # fmt: skip
if fault == "no loop":
    raise SystemExit(0)
for a, b in run:
    if run.step == AT and run.microbatch == 1:
        in_the_loop()
    if fault == "break" and run.step == AT:
        break
    if run.main and run.microbatch == 0 and run.step % 10 == 0:
        print(f"at step {run.step}", flush=True)
    run.backward(F.mse_loss(model(a), b))
if run.main:
    print(f"after the loop, in {os.getpid()}", flush=True)
if fault == "after" and first("after"):
    time.sleep(3600)
print("the end", flush=True)
