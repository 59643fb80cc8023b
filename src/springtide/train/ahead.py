"""Which microbatches a loader fetches before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

Item = tuple[int, int]  # (step, microbatch)
Group = tuple[Item, ...]  # what is made into one batch: one microbatch, or those of a fused pass


class Ahead:
    """What will be asked next: what was said, then the same microbatches of the steps that follow."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._listed: deque[Group] = deque()
        self._pattern: list[Group] = []

    def expect(self, groups: Sequence[Group]) -> None:
        self._listed = deque(groups)
        self._pattern = [group for group in groups if group[0][0] == groups[-1][0][0]]

    def asked(self, group: Group) -> None:
        if group in self._listed:
            while self._listed.popleft() != group:
                pass

    def upcoming(self) -> list[Group]:
        while self._pattern and len(self._listed) < self.size:
            self._pattern = [tuple((step + 1, m) for step, m in group) for group in self._pattern]
            self._listed.extend(self._pattern)
        return [self._listed[i] for i in range(min(self.size, len(self._listed)))]

    def trim(self, ready: dict[Group, Any]) -> None:
        """Keeps what is ready within twice the size: the oldest that nobody expects goes first."""
        if len(ready) > 2 * self.size:
            wanted = self.upcoming()
            for group in [group for group in ready if group not in wanted][: len(ready) - 2 * self.size]:
                del ready[group]
