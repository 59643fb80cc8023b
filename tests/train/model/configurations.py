"""What is walked: name -> (configuration, how many states it has at least).

A walk that sees fewer has lost its subject.
"""

from __future__ import annotations

from train.model.world import Setup

QUICK: dict[str, tuple[Setup, int]] = {
    "two workers, two killed anywhere": (Setup(kills=2), 13_000),
    "three workers and a spare": (Setup(workers=3, spares=1, blocks=3, chunks=3, kills=1), 22_000),
    "partials": (Setup(partials=True, kills=2), 17_000),
    "fused passes": (Setup(blocks=3, fused=True, kills=2), 56_000),
    "evaluation": (Setup(evaluate_every=1, kills=2), 24_000),
    "a checkpoint in flight": (Setup(steps=3, checkpoints=2, kills=1), 24_000),
    "shares by speed": (Setup(blocks=3, steps=3, rebalances=1, kills=1), 12_000),
    "a join and a leave": (Setup(workers=1, steps=3, resizes=(2, 1), kills=1), 22_000),
    "a join and a hand-over": (Setup(workers=1, steps=3, resizes=(2, 1), hasty=True, kills=1), 15_000),
    "a hand-over by two of three, with a spare": (
        Setup(workers=3, spares=1, blocks=3, chunks=2, resizes=(1,), hasty=True, kills=1),
        15_000,
    ),
    "the supervisor dies in a hand-over": (Setup(resizes=(1,), hasty=True, kills=1, supervisor_kills=1), 15_000),
    "the supervisor dies": (Setup(resizes=(1,), kills=1, supervisor_kills=1), 21_000),
    "settings that travel": (Setup(workers=1, steps=3, resizes=(2,), settings=True, kills=1), 1_000),
    "the end is wished for": (Setup(stop=True, checkpoints=1, kills=1), 13_000),
    "a stream": (Setup(stream=True, kills=1), 12_000),
    "a stream, resized": (Setup(stream=True, blocks=1, steps=1, resizes=(1,), kills=1), 20_000),
    "a stream and a checkpoint": (Setup(stream=True, blocks=1, chunks=1, checkpoints=1, kills=1), 20_000),
    "a stream, looked at": (Setup(stream=True, blocks=1, steps=1, evaluate_every=2, stop=True, kills=1), 10_000),
    "a stream, with bells": (Setup(stream=True, blocks=1, chunks=1, steps=1, bells=True, kills=1), 10_000),
    "a stream, word by word": (Setup(stream=True, workers=1, chunks=1, steps=1, words=True), 300),
    "break": (Setup(breaks=1, kills=2, checkpoints=1), 140_000),
    "fewer items than workers": (Setup(workers=3, blocks=1, chunks=1, steps=3, resizes=(1,), kills=2), 42_000),
    "from nothing": (Setup(from_nothing=True, spares=1, steps=1, kills=1), 22_000),
    "bells": (Setup(chunks=1, steps=1, bells=True, kills=1), 50_000),
    "word by word": (Setup(chunks=1, steps=1, words=True, kills=1), 36_000),
}

SLOW: dict[str, tuple[Setup, int]] = {
    "a join, a leave, two killed, a checkpoint": (
        Setup(workers=1, steps=3, resizes=(2, 1), kills=2, checkpoints=1),
        1_400_000,
    ),
    "three microbatches, a spare, two killed, partials": (
        Setup(spares=1, blocks=3, steps=3, partials=True, kills=2),
        210_000,
    ),
    "fused passes while workers come and go": (Setup(blocks=3, fused=True, resizes=(3, 1), kills=1), 60_000),
    "the supervisor dies twice, with a checkpoint": (
        Setup(supervisor_kills=2, kills=1, checkpoints=1, resizes=(1,)),
        210_000,
    ),
    "evaluation, a join and a break": (Setup(workers=1, evaluate_every=1, resizes=(2,), breaks=1, kills=1), 27_000),
    "bells while workers come and go": (Setup(workers=1, chunks=1, resizes=(2, 1), bells=True, kills=0), 35_000),
    "bells, and the supervisor dies": (Setup(chunks=1, steps=1, bells=True, kills=1, supervisor_kills=1), 330_000),
    "a stream, resized and kept": (Setup(stream=True, steps=1, resizes=(1,), checkpoints=1, kills=1), 900_000),
    "a stream, and the supervisor dies": (
        Setup(stream=True, blocks=1, steps=1, resizes=(1,), kills=1, supervisor_kills=1),
        10_000,
    ),
    "a stream, with bells, and the supervisor dies": (
        Setup(stream=True, workers=1, blocks=1, chunks=1, steps=1, resizes=(2,), bells=True, supervisor_kills=1),
        10_000,
    ),
    "a stream, word by word, killed": (
        Setup(stream=True, blocks=1, chunks=1, steps=1, words=True, kills=1),
        10_000,
    ),
    "word by word, with partials": (Setup(chunks=1, steps=1, words=True, partials=True, kills=1), 50_000),
    "word by word, fused, two chunks": (Setup(steps=1, words=True, fused=True, kills=1), 150_000),
}
