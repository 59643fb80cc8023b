"""A mapping with the fields of a table: which there are, which must be there, and what is said of a mistyped one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import Any

from springtide.spec.forms import WRONG, Choice, Data, Form, Reading, Schema, any_of, entries, found_instead
from springtide.spec.quantities import nearest
from springtide.spec.tree import Mapping, Place, Scalar, Tree


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a table: a name, what may stand behind it, and what it is for."""

    name: str
    form: Form
    help: str
    needed: bool | frozenset[str] = False  # always, or for these kinds of job
    kinds: frozenset[str] | None = None  # the kinds of job that have it; None: all
    attribute: str = ""  # of the object, where it is not the name
    instead: str = ""  # a field that may stand in its place, but not beside it

    @property
    def slot(self) -> str:
        return self.attribute or self.name

    def fits(self, kind: str | None) -> bool:
        return self.kinds is None or kind is None or kind in self.kinds

    def needed_by(self, kind: str | None) -> bool:
        return self.needed if isinstance(self.needed, bool) else kind in self.needed


@dataclass(frozen=True, slots=True)
class Rule:
    """Where `given` stands (a field, or a field of a field), `field` must stand too, with `value` if there is one."""

    given: str
    field: str
    sentence: str
    value: str | None = None

    def broken(self, found: MappingType[str, tuple[Scalar, Tree]]) -> Place | None:
        outer, _, inner = self.given.partition(".")
        if outer not in found:
            return None
        key, tree = found[outer]
        if inner and not (isinstance(tree, Mapping) and inner in _keys(tree)):
            return None
        if self.field not in found:
            return key.place
        other = found[self.field][1]
        kept = self.value is None or (isinstance(other, Scalar) and other.text == self.value)
        return None if kept else key.place

    def schema(self) -> Schema:
        outer, _, inner = self.given.partition(".")
        given: Schema = {"required": [outer]}
        if inner:
            given["properties"] = {outer: {"type": "object", "required": [inner]}}
        then: Schema = {"required": [self.field]}
        if self.value is not None:
            then["properties"] = {self.field: {"const": self.value}}
        return {"if": given, "then": then}


def _keys(tree: Mapping) -> set[str]:
    return {key.text for key, _ in tree.entries if isinstance(key, Scalar)}


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with the fields of a table, made into an object.

    `blank(values)` is the object with nothing said but what is needed; fields of the object replace its own.
    """

    fields: tuple[Field, ...]
    blank: Callable[[MappingType[str, Any]], Any]
    example: str
    rules: tuple[Rule, ...] = ()
    one_of: tuple[str, ...] = ()  # exactly one of these fields is given

    def read(self, tree: Tree, name: str, reading: Reading) -> Any:
        values = self.values(tree, name, reading)
        return WRONG if values is None else self.made(values)

    def made(self, values: MappingType[str, Any]) -> Any:
        return replace(self.blank(values), **values)

    def values(self, tree: Tree, name: str, reading: Reading) -> dict[str, Any] | None:
        """The values of what is given, by attribute; None where anything was wrong."""
        reading.visit(tree)
        if not isinstance(tree, Mapping):
            reading.wrong(tree.place, name, f"{found_instead(tree)}; write {self.example}")
            return None
        before = len(reading.faults)
        found = {key.text: (key, item) for key, item in entries(tree, name, reading)}
        kind = self._kind(found)
        known = {one.name: one for one in self.fields}
        values: dict[str, Any] = {}
        for key, item in found.values():
            path = f"{name}.{key.text}" if name else key.text
            if key.text not in known:
                reading.wrong(key.place, path, f"there is no such field{self._meant(key.text, kind)}")
            elif not known[key.text].fits(kind):
                reading.wrong(key.place, path, _unfit(known[key.text], str(kind)))
            else:
                values[known[key.text].slot] = known[key.text].form.read(item, path, reading)
        self._missing(tree, found, kind, name, reading)
        return values if len(reading.faults) == before else None

    def _kind(self, found: MappingType[str, tuple[Scalar, Tree]]) -> str | None:
        """The kind of a job, where a field of this table is a matter of the kind and the kind can be read."""
        kinds = next((one.form.words for one in self.fields if one.name == "kind" and isinstance(one.form, Choice)), {})
        tree = found["kind"][1] if "kind" in found else None
        return tree.text if isinstance(tree, Scalar) and tree.text in kinds else None

    def _meant(self, word: str, kind: str | None) -> str:
        fit = [one.name for one in self.fields if one.fits(kind)]
        if (usual := _USUAL.get(word)) in fit:
            return f'; did you mean "{usual}"?'
        return nearest(word, fit) or f"; write one of {', '.join(fit)}"

    def _missing(
        self, tree: Mapping, found: MappingType[str, tuple[Scalar, Tree]], kind: str | None, name: str, reading: Reading
    ) -> None:
        for one in self.fields:
            other = self._instead(one, kind)
            if other and one.name in found and other.name in found:
                said = f"it stands beside {one.name}, and one of the two is enough; remove one"
                reading.wrong(found[other.name][0].place, f"{name}.{other.name}" if name else other.name, said)
            elif one.needed_by(kind) and one.name not in found and not (other and other.name in found):
                whose = f"a {kind} job" if not isinstance(one.needed, bool) else "it"
                rest = f", or {other.name}: {other.form.example}" if other else ""
                reading.wrong(
                    tree.place,
                    name,
                    f"{one.name} is missing, and {whose} needs one; write {one.name}: {one.form.example}{rest}",
                )
        for rule in self.rules:
            if place := rule.broken(found):
                reading.wrong(place, rule.given, rule.sentence)
        if self.one_of and sum(one in found for one in self.one_of) != 1:
            reading.wrong(tree.place, name, f"exactly one of {' and '.join(self.one_of)} belongs here")

    def _instead(self, one: Field, kind: str | None) -> Field | None:
        """The field that may stand in the place of this one, in a job of this kind."""
        return next((other for other in self.fields if other.name == one.instead and other.fits(kind)), None)

    def write(self, value: Any) -> Data:
        needed = {one.slot: getattr(value, one.slot) for one in self.fields if one.needed is True}
        blank = self.blank(needed)
        return {
            one.name: one.form.write(getattr(value, one.slot))
            for one in self.fields
            if hasattr(value, one.slot) and (one.slot in needed or getattr(value, one.slot) != getattr(blank, one.slot))
        }

    def schema(self) -> Schema:
        said: Schema = {
            "type": "object",
            "properties": {one.name: {"description": one.help} | one.form.schema() for one in self.fields},
            "additionalProperties": False,
        }
        if always := [one.name for one in self.fields if one.needed is True]:
            said["required"] = always
        every = [rule.schema() for rule in self.rules] + self._kinds_said()
        if every:
            said["allOf"] = every
        if self.one_of:
            said["oneOf"] = [{"required": [one]} for one in self.one_of]
        return said

    def _kinds_said(self) -> list[Schema]:
        kinds = next((one.form for one in self.fields if one.name == "kind"), None)
        said = []
        for kind in kinds.words if isinstance(kinds, Choice) else ():
            needed = [one for one in self.fields if one.needed is not True and one.needed_by(kind)]
            then: Schema = {
                "required": [one.name for one in needed if not self._instead(one, kind)],
                "properties": {one.name: False for one in self.fields if not one.fits(kind)},
            }
            pairs = [(one.name, other.name) for one in needed if (other := self._instead(one, kind))]
            if pairs:
                then["allOf"] = [{"oneOf": [{"required": [name]} for name in pair]} for pair in pairs]
            said.append({"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": then})
        return said


_USUAL = {  # what others call it
    **dict.fromkeys(("env", "envs", "variables"), "environment"),
    **dict.fromkeys(("cmd", "entrypoint", "run"), "command"),
    **dict.fromkeys(("workers", "count", "instances", "parallelism", "scale"), "replicas"),
    **dict.fromkeys(("workdir", "cwd", "dir", "working_dir"), "folder"),
    **dict.fromkeys(("cores", "cpus", "vcpu"), "cpu"),
    **dict.fromkeys(("mem", "ram"), "memory"),
    **dict.fromkeys(("gpus", "devices"), "gpu"),
    **dict.fromkeys(("requests", "limits"), "resources"),
    **dict.fromkeys(("rps", "qps"), "requests_per_second"),
    **dict.fromkeys(("quota", "guaranteed"), "guarantee"),
    **dict.fromkeys(("type", "job"), "kind"),
    **dict.fromkeys(("queue", "group", "owner"), "team"),
    **dict.fromkeys(("arguments", "argv"), "args"),
    **dict.fromkeys(("interpreter",), "python"),
}


def _unfit(one: Field, kind: str) -> str:
    others = any_of(sorted(one.kinds or ()))
    instead = {"script": "; write command: [python, FILE]", "command": "; write script: FILE, and args: [...]"}
    return f"a {kind} job has none, only {others}{instead.get(one.name, '; remove it')}"
