"""Whatever is done to a log, in whatever order: it holds what was acknowledged, in order, and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from logs import a_log, last_segment, restart_the_machine

from springtide.data.streams import Expired, Sealed, open_stream, segments
from springtide.data.streams.log import LogStream
from springtide.data.streams.marks import Word

VALUES = st.lists(st.binary(max_size=900), min_size=1, max_size=6)
PARTITIONS = st.integers(0, 1)


class TheLog(RuleBasedStateMachine):
    """The model is a list of values for each partition, and how far the oldest of them are gone."""

    @initialize(sync=st.sampled_from(["os", "each"]), retained=st.sampled_from([None, 20_000]))
    def begin(self, sync: str, retained: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tide-log-"))
        self.log = a_log(self.folder / "log", 2, segment=4096, sync=sync, retain_bytes=retained)
        self.expected: list[list[bytes]] = [[], []]
        self.sealed = False

    @rule(values=VALUES, partition=PARTITIONS, key=st.sampled_from([None, b"", b"key"]))
    def append(self, values: list[bytes], partition: int, key: bytes | None) -> None:
        if self.sealed:
            try:
                self.log.append(values, partition=partition, key=key)
                raise AssertionError("a sealed log took records")
            except Sealed:
                return
        first = len(self.expected[partition])
        places = self.log.append(values, partition=partition, key=key)
        assert places == [(partition, first + at) for at in range(len(values))]
        self.expected[partition] += values

    @rule(partition=PARTITIONS, position=st.integers(0, 10**9))
    def append_a_note(self, partition: int, position: int) -> None:
        if not self.sealed:
            self.log.append([], partition=partition, note=b'{"who": %d}' % position)
            assert self.log.positions()[partition] == {"who": position}

    @rule(partition=PARTITIONS, where=st.floats(0, 1), limit=st.integers(1, 50))
    def read_anywhere(self, partition: int, where: float, limit: int) -> None:
        offset = int(where * len(self.expected[partition]))
        try:
            found = self.log.read(partition, offset, limit=limit)
        except Expired as error:
            assert offset < error.first <= len(self.expected[partition])
            return
        wanted = self.expected[partition][offset : offset + limit]
        assert [record.value for record in found] == wanted
        assert [record.offset for record in found] == list(range(offset, offset + len(wanted)))

    @rule()
    def open_anew(self) -> None:
        self.log.close()
        found = open_stream(self.log.url)
        assert isinstance(found, LogStream)
        self.log = found

    @rule(partition=PARTITIONS, torn=st.binary(min_size=1, max_size=300))
    def die_while_writing(self, partition: int, torn: bytes) -> None:
        """A writer leaves half a frame behind the last one, and the mark that he was at it."""
        path = last_segment(self.log, partition)
        with path.open("ab") as file:
            file.write(torn)
        self.log._marks.rows[partition][Word.DIRTY] = 1

    @rule(partition=PARTITIONS, share=st.floats(0, 1))
    def restart_the_machine(self, partition: int, share: float) -> None:
        bounds = self.log.bounds()[partition]
        stale = bounds.first + int(share * (bounds.end - bounds.first))
        self.log = restart_the_machine(self.log, stale, partition)

    @rule(partition=PARTITIONS)
    def lose_the_indexes(self, partition: int) -> None:
        for path in (self.folder / "log" / str(partition)).glob("*.index"):
            path.unlink()

    @precondition(lambda self: any(self.expected))
    @rule(chance=st.integers(0, 9))
    def seal(self, chance: int) -> None:
        if chance == 0:
            self.log.seal()
            self.sealed = True

    @invariant()
    def bounds_hold_what_was_acknowledged(self) -> None:
        if hasattr(self, "log"):
            for number, bounds in self.log.bounds().items():
                assert bounds.end == len(self.expected[number])
                assert bounds.first in segments.bases(self.folder / "log" / str(number))
                assert bounds.sealed == self.sealed

    def teardown(self) -> None:
        if hasattr(self, "log"):
            for number, expected in enumerate(self.expected):
                offset, found = self.log.bounds()[number].first, []
                while more := self.log.read(number, offset):
                    found += [record.value for record in more]
                    offset = more[-1].offset + 1
                assert found == expected[len(expected) - len(found) :]
            self.log.close()
            shutil.rmtree(self.folder)


TestTheLog = TheLog.TestCase
TestTheLog.settings = settings(
    max_examples=int(os.environ.get("TIDE_EXAMPLES", "40")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
