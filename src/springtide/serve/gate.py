"""The gate: a version and production are scored on held-out records, each in a process of its own, and judged.

`python -m springtide.serve.gate NAME VERSION --data FILE` (or `--folder DIR` of a version) prints scores as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from springtide.serve.judging import GateRule, Scores, Slice, Verdict, judge
from springtide.serve.registry import Registry, Version
from springtide.serve.registry.code import check_build
from springtide.serve.scoring import Record, Scorer, read
from springtide.spec.errors import SpringtideError, UserError
from springtide.spec.quantities import nearest
from springtide.train import futex, process

__all__ = ["GateRule", "Scores", "Slice", "Verdict", "decide", "evaluate", "judge", "records_of"]

EVALUATION_S = 3600.0
_BATCH = 1000  # records of a stream that are read at once


def decide(
    registry: Registry, version: Version, rule: GateRule | None = None, *, data: str | None = None,
    code_from: Path | None = None, evaluation_s: float = EVALUATION_S,
) -> Verdict:  # fmt: skip
    """Judges a version against production by the rule (by default the model's), and records the verdict.

    `data` goes before the rule's. UserError: there is no data, or a model cannot be evaluated on it.
    """
    rule = rule or registry.rule(version.name) or GateRule()
    rule = replace(rule, data=data or rule.data)
    if rule.data is None:
        raise UserError(f"there is no gate data for {version.name}: give --data FILE, or a rule that names it")
    held = number_in_production(registry, version.name)
    candidate = evaluate(version, rule, code_from=code_from, evaluation_s=evaluation_s)
    production = None
    if held is not None:
        current = registry.version(version.name, held)
        production = evaluate(current, rule, code_from=code_from, evaluation_s=evaluation_s)
    verdict = replace(judge(candidate, production, rule), against=held)
    registry.record(version.name, version.number, verdict)
    return verdict


def number_in_production(registry: Registry, name: str) -> int | None:
    """The version of a model that is production; None: none is yet."""
    return next((one.number for one in registry.versions(name) if one.stage == "production"), None)


def evaluate(
    version: Version, rule: GateRule, *, code_from: Path | None = None, evaluation_s: float = EVALUATION_S
) -> Scores:
    """The scores of a version on the rule's data, from a process that dies with this thread.

    UserError: it cannot be evaluated, in one sentence.
    """
    command = [sys.executable, "-P", "-B", "-m", "springtide.serve.gate", "--folder", str(version.path)]
    command += ["--digest", version.digest, "--called", f"version {version.number} of {version.name}"]
    command += ["--data", str(rule.data), "--parent", str(os.getpid())]
    command += ["--scorer", rule.scorer] if rule.scorer else []
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=code_from, text=True
    )
    try:
        said, complained = child.communicate(timeout=evaluation_s)
    except subprocess.TimeoutExpired:
        raise UserError(f"the evaluation of version {version.number} took more than {evaluation_s:g} s") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if child.returncode == 0:
        return read(json.loads(said), 0, "the gate")
    last = next(iter(complained.strip().splitlines()[-1:]), "")
    if child.returncode == UserError.exit_code:
        raise UserError(last.removeprefix("gate: "))
    status = -child.returncode if child.returncode < 0 else child.returncode << 8
    cause = process.cause_of_death(status, out_of_memory=False)
    raise SpringtideError(f"the evaluation of version {version.number} of {version.name} {cause}: {last}")


def records_of(data: str) -> list[Record]:
    """Held-out records: of a JSONL file, or all that a stream holds. UserError: they cannot be read."""
    found = list(_of_stream(data) if "://" in data and not data.startswith("file://") else _of_file(data))
    if not found:
        raise UserError(f"{data} holds no records, so there is nothing to judge by")
    return found


def _of_file(data: str) -> Iterator[Record]:
    path = Path(data.removeprefix("file://"))
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _record(line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"the gate data {path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _of_stream(url: str) -> Iterator[Record]:
    from springtide.data.streams import open_stream

    stream = open_stream(url)
    try:
        for partition, bounds in sorted(stream.bounds().items()):
            at = bounds.first
            while at < bounds.end and (found := stream.read(partition, at, limit=_BATCH)):
                yield from (_record(one.value, f"{url} partition {partition} offset {one.offset}") for one in found)
                at = found[-1].offset + 1
    finally:
        stream.close()


def _record(content: bytes, where: str) -> Record:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(
            f'{where} is no JSON object; write one record a line, for example {{"input": ..., "correct": ...}}'
        )
    return found


# --- the process that evaluates


def main() -> int:
    """Scores on stdout as JSON; what user code prints goes to stderr."""
    words = _parser().parse_args()
    if words.parent:
        futex.die_with_parent()
        if os.getppid() != words.parent:  # it was dead before
            return 1
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        found = _scores(words)
    except SpringtideError as error:
        print(f"gate: {error}", file=sys.stderr)
        return UserError.exit_code
    out.write(json.dumps(asdict(found)) + "\n")
    out.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m springtide.serve.gate", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a model of the registry")
    parser.add_argument("version", nargs="?", metavar="VERSION", help="a number or a stage")
    parser.add_argument("--folder", type=Path, help="the folder of a version, instead of NAME and VERSION")
    parser.add_argument("--data", required=True, help="held-out records: a JSONL file, or the URL of a stream")
    parser.add_argument("--scorer", metavar="MODULE:FUNCTION", help="called with the module and the records")
    parser.add_argument("--digest", help=argparse.SUPPRESS)
    parser.add_argument("--called", default="the model", help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _scores(words: argparse.Namespace) -> Scores:
    from springtide.serve import build, scoring
    from springtide.serve.registry import folder

    if words.folder is None:
        if words.name is None or words.version is None:
            raise UserError("what is to be scored? write NAME VERSION, or --folder DIR")
        version = Registry.open().version(words.name, words.version)
        path, digest, what = version.path, version.digest, f"version {version.number} of {version.name}"
    else:
        path, what = words.folder, words.called
        digest = words.digest or folder.read(path).digest
    records = records_of(words.data)
    scorer = _scorer(words.scorer) if words.scorer else None
    module = build.module_in(path, folder.verified(path, digest, what), what)
    try:
        return scoring.scores(module, records, scorer, words.scorer or f"evaluate of {what}")
    except SpringtideError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} cannot be evaluated: {build.place_of(error, path)}") from error


def _scorer(named: str) -> Scorer:
    """A function of the caller's folder: the same for every version, so that their scores can be compared."""
    name, function = check_build(named, "scorer")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module: Any = importlib.import_module(name)
    except Exception as error:
        raise UserError(f"scorer: {name} cannot be imported: {type(error).__name__}: {error}") from None
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"scorer: {name} has no function {function}{nearest(function, dir(module))}")
    scorer: Scorer = found
    return scorer


if __name__ == "__main__":
    raise SystemExit(main())
