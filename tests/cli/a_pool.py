"""A real pool of a home of its own, and the commands that speak to it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner

import running
from springtide import Client
from springtide.cli import commands

NODES = "4x1cpu,1Gi"


@dataclass
class APool:
    """The pool of a home of its own. It is called with the words of a command, which runs within this process."""

    home: Path

    def __call__(self, *words: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        typed = [str(word) for word in words]
        environment = {"TIDE_HOME": str(self.home), "COLUMNS": "100", **variables}
        code: Any = 0
        with (
            CliRunner().isolation(input=stdin) as (out, err, _),
            mock.patch.dict(os.environ, environment),
            mock.patch.object(sys, "argv", ["tide", *typed]),
        ):
            try:
                commands.main()
            except SystemExit as end:
                code = end.code
            said, complained = out.getvalue().decode(), err.getvalue().decode()
        return subprocess.CompletedProcess(typed, code or 0, said, complained)

    def done(self, *words: str | Path, stdin: str = "", **variables: str) -> str:
        """What a command printed that must succeed."""
        answer = self(*words, stdin=stdin, **variables)
        assert answer.returncode == 0, f"tide {words}: {answer.returncode}\n{answer.stdout}{answer.stderr}{self.log()}"
        return answer.stdout

    @cached_property
    def client(self) -> Client:
        return Client(self.home / "pool" / "pool.sock")

    def row(self, name: str) -> dict[str, Any]:
        """The newest job of that name; empty: there is none."""
        return next(iter(self.client.jobs(name=name, limit=1)), {})

    def until(self, name: str, **wanted: object) -> dict[str, Any]:
        """The row of the job once it says that."""
        running.wait_until(lambda: wanted.items() <= self.row(name).items(), f"{name} {wanted}: {self.row(name)}")
        return self.row(name)

    def sleeper(self, name: str, *options: str) -> None:
        """A job that does nothing for long."""
        self.done("submit", "--name", name, "--cpu", "500m", "--folder", "none", *options, "--", "sleep", "600")

    def log(self) -> str:
        folder = self.home / "pool"
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(folder.glob("*.log")))


def end(pool: APool) -> None:
    """Nothing of the pool goes on, whatever the test did."""
    pool("down")
    left = running.of_home(pool.home)
    running.strike(list(left))
    assert not left, f"left behind: {left}"
