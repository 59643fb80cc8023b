"""A script on a stream: it counts the records in its weights, and learns something whose bits depend on their order.

`streaming.py URL OUT [steps=N] [pause=S] [records=N] ...`: what is counted is written to OUT as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from springtide import data, train

ROOM = 20_000


class Model(torch.nn.Module):
    """`seen[n]` grows by 1 / batch for each record n; `line` is fitted to them, with momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.nn.Parameter(torch.zeros(ROOM, dtype=torch.float64))
        self.line = torch.nn.Linear(2, 1)


def main() -> None:
    url, out, *words = sys.argv[1:]
    told = dict(word.split("=") for word in words)
    pause, steps, batch = float(told.pop("pause", 0)), told.pop("steps", None), int(told.pop("batch", 20))
    rules = {name: value if name in ("start", "expired", "quarantine", "on_bad") else float(value)
             for name, value in told.items()}  # fmt: skip
    if "records" in rules:
        rules["records"] = int(rules["records"])
    if "ratio" in rules:
        rules["mix"] = [{"id": ROOM - 100 + k} for k in range(100)]
    torch.manual_seed(1)
    model = Model()
    optimizer = torch.optim.SGD(
        [{"params": [model.seen], "lr": 1.0}, {"params": model.line.parameters(), "lr": 0.05, "momentum": 0.9}]
    )
    run = train.Run(
        model, optimizer, data.stream(url, **rules), batch, microbatches=4, steps=int(steps) if steps else None
    )
    for records in run:
        time.sleep(pause)
        angle = records["id"].float()[:, None]
        fitted = model.line(torch.cat([angle.sin(), angle.cos()], 1))
        run.backward(-model.seen[records["id"]].mean() + (fitted - (angle / 7).sin()).square().mean())
    Path(out).write_text(json.dumps((model.seen * batch).round().int().tolist()))


if __name__ == "__main__":
    main()
