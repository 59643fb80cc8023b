"""YAML text as a tree that remembers lines and columns and takes no scalar for anything but text.

YAML 1.1 guesses: `no` is false, `1:4` is 64, `010` is 8, a date is a date. Here a scalar stays what was written, and
its field says how it is read. Only plain lists, mappings and scalars are taken: nothing in a file can name code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import yaml

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # libyaml's, twenty times as fast, where it is built in
_TAGS = (None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\.")
_NOTHING = ("", "~", "null", "Null", "NULL")
MOST_BYTES = 32 * 2**20
MOST_DEPTH = 40


class Place(NamedTuple):
    """A line and a column of a file, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One word or text, as written (quotes and escapes undone)."""

    text: str
    place: Place
    quoted: bool = False

    @property
    def nothing(self) -> bool:
        """Whether there is only a colon, or YAML's word for nothing."""
        return not self.quoted and self.text in _NOTHING


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Tree, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Mapping:
    """Names and what stands behind them, in the order of the file; nothing is merged or checked yet."""

    entries: tuple[tuple[Tree, Tree], ...]
    place: Place


Tree: TypeAlias = Scalar | Sequence | Mapping


class Malformed(Exception):
    """Text that is no YAML, or more of it than a file may hold: where, and one sentence without the place."""

    def __init__(self, place: Place, sentence: str):
        super().__init__(sentence)
        self.place = place
        self.sentence = sentence


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end is not read yet."""

    mapping: bool
    place: Place
    anchor: str | None
    parts: list[Tree] = field(default_factory=list)

    def closed(self) -> Tree:
        if self.mapping:
            return Mapping(tuple(zip(self.parts[::2], self.parts[1::2], strict=True)), self.place)
        return Sequence(tuple(self.parts), self.place)


def documents(text: str) -> Iterator[tuple[Tree, int]]:
    """The documents of a file, each with the number of its nodes; empty ones are left out.

    Raises Malformed where the text stops being YAML; what was yielded before stands.
    """
    if text.lstrip()[:1] == "{":
        # JSON escapes what lies beyond U+FFFF in two halves, which YAML does not put together.
        text = _ESCAPES.sub(lambda found: json.loads(f'"{found[0]}"') if len(found[0]) == 12 else found[0], text)
    if found := _UNPRINTABLE.search(text.removeprefix("\ufeff")):
        before = text[: found.start()]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise Malformed(place, f"the character U+{ord(found[0]):04X} cannot be written like this; remove it")
    try:
        yield from _built(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _translated(error, text) from None


def _built(events: Iterator[Any]) -> Iterator[tuple[Tree, int]]:
    anchors: dict[str, Tree] = {}
    stack: list[_Open] = []
    count = 0
    for event in events:
        done: Tree | None = None
        anchor: str | None = None
        match event:
            case yaml.DocumentStartEvent():
                anchors, count = {}, 0
            case yaml.ScalarEvent():
                _no_tag(event)
                done, anchor = Scalar(event.value, _place(event.start_mark), bool(event.style)), event.anchor
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                _no_tag(event)
                stack.append(_Open(isinstance(event, yaml.MappingStartEvent), _place(event.start_mark), event.anchor))
                if len(stack) > MOST_DEPTH:
                    raise Malformed(stack[-1].place, f"this lies in more than {MOST_DEPTH} lists and mappings")
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = stack.pop()
                done, anchor = ended.closed(), ended.anchor
            case yaml.AliasEvent():
                done = _named(event, anchors)
        if done is None:
            continue
        count += 1
        if anchor:
            anchors[anchor] = done
        if stack:
            stack[-1].parts.append(done)
        elif not (isinstance(done, Scalar) and done.nothing):
            yield done, count


def _named(event: Any, anchors: dict[str, Tree]) -> Tree:
    # An anchor counts from the end of what it names, so nothing can hold itself.
    if event.anchor not in anchors:
        raise Malformed(_place(event.start_mark), f"*{event.anchor} names nothing that stands complete before it")
    return anchors[event.anchor]


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _no_tag(event: Any) -> None:
    if event.tag not in _TAGS:
        word = event.tag.replace("tag:yaml.org,2002:", "!!")
        raise Malformed(_place(event.start_mark), f'types are not written here; remove "{word}"')


_MEANT = {
    "found a tab character": "a tab stands here; indent with spaces",
    "mapping values are not allowed": "a second colon stands here; put quotes around text that has a colon in it",
    "did not find expected key": "this line continues nothing before it; indent it like its neighbours, and "
    "look for a bracket or a quote that is not closed",
    "did not find expected '-' indicator": "this line is no item of the list before it; begin it with a - like them",
    "did not find expected ',' or": "a comma or a closing bracket is missing before this",
    "found unexpected end of stream": "a quote or a bracket is opened and never closed",
    "could not find expected ':'": "a colon is missing behind the word in the line before",
    "did not find expected <document start>": "text stands behind the end of a document; write --- between two jobs",
}


def _translated(error: yaml.MarkedYAMLError, text: str) -> Malformed:
    mark = error.problem_mark or error.context_mark
    place = _place(mark) if mark else Place(1, 1)
    problem = error.problem or error.context or "unreadable"
    if "cannot start any token" in problem:
        found = text.splitlines()[place.line - 1][place.column - 1 :][:1]
        if found == "\t":
            return Malformed(place, "a tab stands here; indent with spaces")
        return Malformed(place, f"nothing may begin with {found}; put quotes around the text")
    meant = next((ours for theirs, ours in _MEANT.items() if theirs in problem), None)
    return Malformed(place, meant or f"this is no YAML: {problem}")
