"""Jobs packed in pairs on the same GPUs: how fast each was measured to be, and what that says about their stages.

Where pairs were measured and stages were not, a model is taken to load for a part of each second and to compute for
the rest, so that the planner's own rule for jobs in turns comes as near to all its pairs as it can.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from springtide.core.complements import STRETCH, iteration_s
from springtide.core.resources import FloatArray

TURNS = 0.5  # of its speed is left to each of two that do not fit into a GPU's memory together: they run in turns
_ROUNDS = 4  # over all models; by then nothing moves any more
_GRID = 21  # parts of a second that are tried

Model = tuple[str, int]  # name, GPUs
Pairs = Mapping[Model, Mapping[Model, float]]  # the first one's speed beside the second, against itself alone


def beside(pairs: Pairs, model: Model, other: Model) -> float:
    """The share of its speed that a model keeps beside another one."""
    return pairs.get(model, {}).get(other, 0.0) or TURNS


def stages(pairs: Pairs) -> dict[Model, FloatArray]:
    """(4,) seconds on disk, cpu, gpu and network of every model's second, fitted to what its pairs were measured at."""
    tried = np.linspace(0.0, 1.0, _GRID)
    predicted = np.array([[_speed(a, b) for b in tried.tolist()] for a in tried.tolist()])
    models = sorted(pairs)
    at = {model: number for number, model in enumerate(models)}
    best = np.full(len(models), _GRID - 1)
    for _ in range(_ROUNDS):
        for model in models:
            others = [other for other in pairs[model] if other in at]
            if others:
                seen = np.array([(beside(pairs, model, o) + beside(pairs, o, model)) / 2 for o in others])
                error = (predicted[:, best[[at[other] for other in others]]] - seen) ** 2
                best[at[model]] = int(np.argmin(error.sum(axis=1)))
    return {model: np.array([1.0 - tried[best[n]], 0.0, tried[best[n]], 0.0]) for n, model in enumerate(models)}


def _speed(first: float, second: float) -> float:
    """Of two that compute for so much of each second, the share of its speed that each keeps."""
    one, other = sorted(((1.0 - first, first, 0.0), (1.0 - second, second, 0.0)))
    return STRETCH[1] / iteration_s((one, other))
