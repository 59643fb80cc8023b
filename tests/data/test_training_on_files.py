"""A run whose files change under it: it ends with their names, and goes on once they are as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import running
from running import Running

SCRIPT = """
import sys
import time
import torch
from torch import nn
from springtide import data, train

torch.manual_seed(0)
model = nn.Linear(2, 1)
rows = data.csv(sys.argv[1], "c", target_type="float32")
run = train.Run(model, torch.optim.SGD(model.parameters(), 1e-3), rows, 16, steps=300, microbatches=2)
for x, y in run:
    time.sleep(0.002)
    run.backward(nn.functional.mse_loss(model(x).squeeze(1), y))
"""


@pytest.mark.slow
def test_a_shard_that_is_cut_under_the_run_is_named_and_nothing_is_lost(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    for part in range(3):
        rows = "".join(f"{i / 7},{i % 5},{i % 3}\n" for i in range(400))
        (tmp_path / f"part-{part}.csv").write_text(f"a,b,c\n{rows}")
    pattern, shard = tmp_path / "part-*.csv", tmp_path / "part-1.csv"
    wanted = running.alone(script, pattern, home=tmp_path / "alone")["digest"]
    run = Running(script, pattern, home=home, workers="2", options=("--every", "10steps"))
    run.until("checkpoint")
    whole = shard.read_bytes()
    os.truncate(shard, 1000)
    assert run.finish()["exit"] == 2, run.story()
    said = f"{shard}: this file changed while it was being read: it was cut from {len(whole)} to 1000 bytes"
    assert said in run.errors
    assert "Traceback" not in run.errors
    shard.write_bytes(whole)
    again = Running(script, pattern, home=home, workers="2")
    assert again.until("start")["resumed_step"] > 0
    report = again.finish()
    assert (report["exit"], report["digest"]) == (0, wanted), again.story()
