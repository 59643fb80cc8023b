"""The shapes that a field's value can have. Each reads a tree, writes plain data, and says itself as JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest
from springtide.spec.tree import Mapping, Place, Scalar, Sequence, Tree

Data = Any  # dict, list, str, int, float: what JSON can say
Schema = dict[str, Any]


class _Wrong:
    """What reading gives where something was wrong; why is among the faults."""


WRONG: Final = _Wrong()


@dataclass(slots=True)
class Reading:
    """One file being read: what it is called, where relative paths begin, and what was wrong so far."""

    where: str
    folder: Path | None
    faults: list[tuple[Place, str]] = field(default_factory=list)
    visits_left: int = 0
    places: dict[tuple[str, str], Place] = field(default_factory=dict)  # of named things: (what, name) -> where
    twice: list[tuple[Place, str]] = field(default_factory=list)  # faults that spoil no object: a name that is taken

    def wrong(self, place: Place, name: str, sentence: str) -> _Wrong:
        self.faults.append((place, f"{self.at(place, name)}: {sentence}" if name else f"{self.at(place)}: {sentence}"))
        return WRONG

    def at(self, place: Place, name: str = "") -> str:
        spot = f"{self.where}:{place.line}:{place.column}"
        return f"{spot}: {name}" if name else spot

    def visit(self, tree: Tree) -> None:
        """Counts what is read, so that a few lines of aliases cannot stand for billions of values."""
        self.visits_left -= 1
        if self.visits_left < 0:
            raise UserError(f"{self.at(tree.place)}: the aliases of this file stand for too much; write it out")


class Form(Protocol):
    """How one field's value is read, written and described."""

    @property
    def example(self) -> str: ...

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        """The value, or WRONG after the reading was told why."""

    def write(self, value: Any) -> Data: ...

    def schema(self) -> Schema: ...


def found_instead(tree: Tree) -> str:
    """The beginning of a sentence about a value of the wrong shape."""
    match tree:
        case Sequence():
            return "a list stands here"
        case Mapping():
            return "a mapping stands here"
        case Scalar() if tree.nothing:
            return "nothing is said"
    return f'"{tree.text}" stands here'


def _same(value: Any) -> Any:
    return value


TEXT: Schema = {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True, slots=True)
class Text:
    """One word, converted by `parse(text, where)`, which raises UserError with the whole sentence."""

    parse: Callable[[str, str], Any]
    example: str
    said: Schema = field(default_factory=lambda: TEXT)
    text: Callable[[Any], Data] = _same
    place: Callable[[str], bool] | None = None  # whether the text is a path relative to the file
    none: str = ""  # the sentence's end where nothing is said

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        reading.visit(tree)
        if not isinstance(tree, Scalar) or tree.nothing:
            return reading.wrong(tree.place, name, f"{found_instead(tree)}; {self._right(tree)}")
        try:
            value = self.parse(tree.text, reading.at(tree.place, name))
        except UserError as error:
            reading.faults.append((tree.place, str(error)))
            return WRONG
        placed = reading.folder is not None and self.place is not None and self.place(value)
        return str(Path(reading.folder or ".", Path(value).expanduser())) if placed else value

    def _right(self, tree: Tree) -> str:
        # YAML's word for nothing may be meant as a word.
        quoted = isinstance(tree, Scalar) and tree.text not in ("", "~")
        return f"write {self.none or self.example}{', or put quotes around the word' if quoted else ''}"

    def write(self, value: Any) -> Data:
        return self.text(value)

    def schema(self) -> Schema:
        return dict(self.said)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, each for a value."""

    words: MappingType[str, Any]

    @property
    def example(self) -> str:
        return any_of(self.words)

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        reading.visit(tree)
        if not isinstance(tree, Scalar) or tree.nothing:
            return reading.wrong(tree.place, name, f"{found_instead(tree)}; write {self.example}")
        if tree.text not in self.words:
            hint = nearest(tree.text, self.words) or f"; write {self.example}"
            return reading.wrong(tree.place, name, f'"{tree.text}" is none of the words for it{hint}')
        return self.words[tree.text]

    def write(self, value: Any) -> Data:
        return next(word for word, meant in self.words.items() if meant == value)

    def schema(self) -> Schema:
        return {"enum": list(self.words)}


def any_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


@dataclass(frozen=True, slots=True)
class Items:
    """A list; with `single`, one value alone stands for a list of one."""

    item: Form
    example: str
    single: bool = False
    least: int = 0

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        reading.visit(tree)
        if self.single and isinstance(tree, Scalar):
            value = self.item.read(tree, name, reading)
            return value if value is WRONG else (value,)
        if not isinstance(tree, Sequence):
            words = isinstance(tree, Scalar) and not tree.nothing and isinstance(self.item, Text)
            right = f"[{', '.join(tree.text.split())}]" if words and isinstance(tree, Scalar) else self.example
            return reading.wrong(tree.place, name, f"{found_instead(tree)}, where a list belongs; write {right}")
        if len(tree.items) < self.least:
            return reading.wrong(tree.place, name, f"the list is empty; write {self.example}")
        values = [self.item.read(item, name, reading) for item in tree.items]
        return WRONG if any(value is WRONG for value in values) else tuple(values)

    def write(self, value: Any) -> Data:
        values = [self.item.write(item) for item in value]
        return values[0] if self.single and len(values) == 1 else values

    def schema(self) -> Schema:
        many: Schema = {"type": "array", "items": self.item.schema()}
        if self.least:
            many["minItems"] = self.least
        return {"anyOf": [self.item.schema(), many]} if self.single else many


@dataclass(frozen=True, slots=True)
class Flat:
    """A list whose items each stand for several values."""

    item: Form
    example: str

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        groups = Items(self.item, self.example).read(tree, name, reading)
        return groups if groups is WRONG else tuple(value for group in groups for value in group)

    def write(self, value: Any) -> Data:
        return [self.item.write(item) for item in value]

    def schema(self) -> Schema:
        return Items(self.item, self.example).schema()


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping of names that the user chooses."""

    key: Callable[[str, str], str]
    item: Form
    example: str

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        reading.visit(tree)
        if not isinstance(tree, Mapping):
            return reading.wrong(tree.place, name, f"{found_instead(tree)}; write {self.example}")
        values: dict[str, Any] = {}
        good = True
        for key, item in entries(tree, name, reading):
            value = self.item.read(item, f"{name}.{key.text}", reading)
            try:
                values[self.key(key.text, reading.at(key.place, name))] = value
            except UserError as error:
                reading.faults.append((key.place, str(error)))
                good = False
        return values if good and not any(value is WRONG for value in values.values()) else WRONG

    def write(self, value: Any) -> Data:
        return {key: self.item.write(item) for key, item in value.items()}

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self.item.schema()}


@dataclass(frozen=True, slots=True)
class Either:
    """A word in a short form, or the long form; `fits(value)` says which form a value is written in."""

    short: Form
    long: Form
    fits: Callable[[Any], bool]

    @property
    def example(self) -> str:
        return f"{self.short.example}, or {self.long.example}"

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        return (self.short if isinstance(tree, Scalar) else self.long).read(tree, name, reading)

    def write(self, value: Any) -> Data:
        return (self.short if self.fits(value) else self.long).write(value)

    def schema(self) -> Schema:
        return {"anyOf": [self.short.schema(), self.long.schema()]}


def entries(tree: Mapping, name: str, reading: Reading) -> list[tuple[Scalar, Tree]]:
    """The entries of a mapping: each name once, and what `<<` merges in behind its own."""
    own: dict[str, tuple[Scalar, Tree]] = {}
    merged: dict[str, tuple[Scalar, Tree]] = {}
    for key, item in tree.entries:
        if not isinstance(key, Scalar) or key.nothing:
            reading.wrong(key.place, name, "a name belongs before the colon")
        elif key.text == "<<" and not key.quoted:
            merged = _merged(item, name, reading) | merged
        elif key.text in own:
            first = own[key.text][0].place.line
            path = f"{name}.{key.text}" if name else key.text
            reading.wrong(key.place, path, f"this stands twice, first in line {first}; remove one of the two")
        else:
            own[key.text] = (key, item)
    return list((merged | own).values() if merged else own.values())


def _merged(tree: Tree, name: str, reading: Reading) -> dict[str, tuple[Scalar, Tree]]:
    reading.visit(tree)
    parts = tree.items if isinstance(tree, Sequence) else (tree,)
    found: dict[str, tuple[Scalar, Tree]] = {}
    for part in parts:
        if isinstance(part, Mapping):
            reading.visit(part)
            found = {key.text: (key, item) for key, item in entries(part, name, reading)} | found
        else:
            reading.wrong(part.place, name, "<< takes the alias of a mapping; write <<: *name")
    return found
