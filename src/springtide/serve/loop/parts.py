"""How a loop's candidates are scored: on all records, and on those that never change by themselves.

The gate calls `scores` in the process that evaluates. What users send is judged on too, and somebody may send what is
wrong: so the records of the loop's own file are a slice of their own, on which no candidate may be worse.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

if TYPE_CHECKING:
    import torch

    from springtide.serve.scoring import Record, Scorer

SCORER = "springtide.serve.loop.parts:scores"
FIXED, PART = "fixed", "loop_part"  # the slice's name; the field of a record that says it is in it
USERS_SCORER = "TIDE_LOOP_SCORER"  # module:function of the loop's file


def scores(module: torch.nn.Module, records: list[Record]) -> dict[str, Any]:
    """Scores by the loop's scorer or as the gate would by itself, with the fixed records as a slice."""
    from springtide.serve import scoring

    named = os.environ.get(USERS_SCORER)
    scorer, what = (_scorer(named), named) if named else (None, "evaluate")
    fixed = [record for record in records if record.get(PART) == FIXED]
    found = asdict(scoring.scores(module, records, scorer, what))
    if fixed:
        alone = scoring.scores(module, fixed, scorer, what)
        found["slices"] = {**found["slices"], FIXED: {"metrics": dict(alone.metrics), "count": alone.count}}
    return found


def _scorer(named: str) -> Scorer:
    name, _, function = named.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module: Any = importlib.import_module(name)
    except Exception as error:
        raise UserError(f"gate.scorer: {name} cannot be imported: {type(error).__name__}: {error}") from None
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"gate.scorer: {name} has no function {function}{nearest(function, dir(module))}")
    scorer: Scorer = found
    return scorer
