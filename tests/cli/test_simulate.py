"""`tide simulate` as typed."""

from __future__ import annotations

import json
from pathlib import Path

from cli.tide import tide

JOBS = "submit,work,replicas,gpu\n0,100,1,1\n10,100,1..4,1\n"


def test_figures_go_to_a_table_and_to_json(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(JOBS)
    out = tmp_path / "out.json"
    words = ("simulate", tmp_path / "jobs.csv", "--nodes", "1x4gpu", "--policy", "fifo", "--policy", "springtide")
    done = tide(*words, "--json", out, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "springtide" in done.stdout
    rows = json.loads(out.read_text())
    assert {"work", "system", "metric", "value", "unit", "published"} == set(rows[0])
    assert {row["system"] for row in rows} == {"fifo", "springtide"}


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(JOBS)
    done = tide("simulate", tmp_path / "jobs.csv", "--plot", tmp_path / "p.png", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("submit,work,gpu\n0,100,64\n")
    for words, said in (
        ((tmp_path / "jobs.csv",), "no node could ever hold it"),
        ((tmp_path / "jobs.csv", "--policy", "fifi"), 'did you mean "fifo"'),
        (("edl-2017-case-3",), 'did you mean "edl-2017-case-'),
        ((tmp_path / "jobs.csv", "--seeds", "0"), "--seeds"),
    ):
        done = tide("simulate", *words, home=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
