"""Offsets without a record are found before a step is planned, however they lie."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from springtide.data.streams import Record
from springtide.train import stream_plan
from springtide.train.gaps import Gaps
from springtide.train.stream_plan import Supply


@dataclass
class Thin:
    """One partition in which only some offsets hold a record; as little of a stream as planning needs."""

    there: list[int]
    reads: int = 0

    def read(self, partition: int, offset: int, *, limit: int = 1000) -> list[Record]:
        self.reads += 1
        return [Record(partition, o, b"", 0.0) for o in self.there if o >= offset][: min(limit, 3)]


@given(
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=2).map(stream_plan.merged),
    st.integers(1, 5),
)
def test_step_after_step_takes_what_is_there_and_nothing_else(
    there: list[int], forbidden: list[tuple[int, int]], batch: int
) -> None:
    stream, gaps, offsets, taken = Thin(there), Gaps(), dict[int, int](), list[int]()
    end = there[-1] + 1 if there else 0
    while True:
        supply = gaps.without(Supply({0: (0, end)}, {0: forbidden}), offsets, stream, batch)  # type: ignore[arg-type]
        ranges = stream_plan.plan_step(offsets, supply, batch, 1)
        if ranges is None:
            break
        taken += [offset for _, begin, until in ranges for offset in range(begin, until)]
        offsets[0] = ranges[-1][2]
    wanted = [offset for offset in there if not any(low <= offset < high for low, high in forbidden)]
    assert taken == wanted[: len(wanted) // batch * batch]
    assert stream.reads <= len(there) + len(taken) + 2
