"""The named tensors of a state in the arena, so that whoever has no torch can name, write and read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from springtide.spec import UserError
from springtide.train.arena import Arena
from springtide.train.tensors import Stored, Tensor


@dataclass(frozen=True)
class Entry:
    """A tensor of the state. `parts` are (offset in the region, bytes); `copies` hold the same value (one a piece)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[tuple[int, int], ...]
    region: str = "state"  # or "constants"
    presence: tuple[int, ...] = ()  # bytes that say it exists; it does when the first is set
    copies: tuple[int, ...] = ()
    model: bool = False  # kept with the best model


@dataclass(frozen=True)
class Inventory:
    """All tensors of a run's state, in layout order. `changed` words are set when a state is loaded."""

    entries: tuple[Entry, ...]
    changed_offset: int
    changed_count: int
    tied: Mapping[str, str]

    def tensors(self, arena: Arena, buffer: int) -> list[Tensor]:
        """The state in that buffer, where it lies."""
        base = arena.at.buffers[buffer]
        return [
            self._tensor(arena, entry, base)
            for entry in self.entries
            if not entry.presence or arena.bytes[base + entry.presence[0]]
        ]

    def best(self, arena: Arena) -> list[Tensor]:
        """The best model kept."""
        return [self._tensor(arena, entry, arena.at.best) for entry in self.entries if entry.model]

    def load(self, arena: Arena, buffer: int, stored: Mapping[str, Stored], step: int) -> None:
        """Bring a stored state into that buffer. UserError: it belongs to another model (which tensors differ)."""
        self._check(stored)
        base = arena.at.buffers[buffer]
        for entry in self.entries:
            found = stored.get(entry.name)
            for offset in entry.presence:
                arena.bytes[base + offset] = int(found is not None)
            if found is None:
                continue
            data, begin = memoryview(found.data).cast("B") if found.data.nbytes else memoryview(b""), 0
            region = arena.at.constants if entry.region == "constants" else base
            for offset, size in entry.parts:
                arena.bytes[region + offset : region + offset + size] = data[begin : begin + size]
                begin += size
            for offset in entry.copies:
                arena.bytes[region + offset : region + offset + len(data)] = data
        changed = arena.view(base + self.changed_offset, self.changed_count)
        for index in range(self.changed_count):
            changed[index] = step + 1

    def load_best(self, arena: Arena, stored: Mapping[str, Stored]) -> None:
        """Bring a stored model back as the best one."""
        for entry in self.entries:
            if entry.model and entry.name in stored and entry.region == "state":
                data, begin = bytes(stored[entry.name].data), 0
                for offset, size in entry.parts:
                    arena.bytes[arena.at.best + offset : arena.at.best + offset + size] = data[begin : begin + size]
                    begin += size

    def document(self) -> dict[str, Any]:
        """For the arena's description."""
        return asdict(self)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Inventory:
        entries = tuple(
            Entry(
                entry["name"],
                entry["dtype"],
                tuple(entry["shape"]),
                tuple((offset, size) for offset, size in entry["parts"]),
                entry["region"],
                tuple(entry["presence"]),
                tuple(entry["copies"]),
                entry["model"],
            )
            for entry in document["entries"]
        )
        return cls(entries, document["changed_offset"], document["changed_count"], document["tied"])

    def _tensor(self, arena: Arena, entry: Entry, base: int) -> Tensor:
        region = arena.at.constants if entry.region == "constants" else base
        parts = tuple(arena.bytes[region + offset : region + offset + size] for offset, size in entry.parts)
        return Tensor(entry.name, entry.dtype, entry.shape, parts)

    def _check(self, stored: Mapping[str, Stored]) -> None:
        here = {entry.name: entry for entry in self.entries}
        wrong = [f"{name} is not in this run" for name in stored if name not in here]
        wrong += [f"{e.name} is not in it" for e in self.entries if e.name not in stored and not e.presence]
        for name, found in stored.items():
            entry = here.get(name)
            if entry and (tuple(found.shape) != entry.shape or found.dtype != entry.dtype):
                wrong.append(
                    f"{name} is {found.dtype} {list(found.shape)} there, {entry.dtype} {list(entry.shape)} here"
                )
        if wrong:
            more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
            raise UserError(
                f"the checkpoint is of another model: {'; '.join(wrong[:6])}{more}; "
                "take the script that wrote it, or --fresh"
            )
