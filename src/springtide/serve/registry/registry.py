"""The registry: versions of named models in folders that never change, and one file that says which of them serves.

A version is there once its row is: its folder is written aside, synced and checked before, and takes its name within
the transaction that makes the row. So `add`, killed at any instant, leaves a whole version or none.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from springtide.serve import checking
from springtide.serve.judging import GateRule, Verdict
from springtide.serve.registry import code, folder, rows, sources, stages
from springtide.serve.registry.file import File
from springtide.serve.registry.folder import Recipe
from springtide.serve.registry.sources import Source
from springtide.serve.registry.stages import Move, Moves, Stage, Stages
from springtide.serve.registry.version import Attendant, Change, Lineage, Version
from springtide.spec import amounts, home
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.quantities import nearest
from springtide.train import durable, process


def whoever() -> str:
    """The name of the user of this process, for what is recorded."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name  # and not what the environment says
    except KeyError:
        return f"user {os.getuid()}"


class Registry:
    """Many processes may use one registry at once; methods raise UserError, Refused or SpringtideError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._file = File(root / "registry.sqlite")

    @classmethod
    def open(cls, root: Path | None = None) -> Registry:
        """The registry of that folder, by default of this home; made if it is not there."""
        return cls(home.home() / "models" if root is None else root)

    # --- versions

    def add(self, name: str, source: Path | str, *, build: str, **words: Any) -> Version:
        """As `added`, where it does not matter whether it is new."""
        return self.added(name, source, build=build, **words)[0]

    def added(
        self, name: str, source: Path | str, *, build: str, config: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None, lineage: Lineage | None = None, by: str | None = None,
        code_from: Path | None = None,
    ) -> tuple[Version, bool]:  # fmt: skip
        """A new version of `name`, and True; False and the version that is there if its content is equal to a byte.

        `source` is a .safetensors file, a checkpoint, a folder of them (here or by URL) or a run's folder; `build` is
        MODULE:FUNCTION, found from `code_from` (by default the current folder), then PYTHONPATH, and copied. What
        `lineage` says goes before what the source tells. UserError: a part is not there, or the module cannot be built
        from them.
        """
        amounts.name(name, "NAME")
        _check_config(config or {})
        found = sources.read(source)
        modules = code.collect(build, code.roots_of(code_from or Path.cwd()))
        with self._aside(name) as there:
            recipe = folder.fill(there, found.weights, modules, build, config or {})
            recipe = msgspec.structs.replace(recipe, inputs=checking.inputs(there, recipe))
            folder.finish(there, recipe)
            metrics = dict(found.metrics) | dict(metrics or {})
            return self._entered(there, name, recipe, _joined(found, lineage, recipe), metrics, by or whoever())

    def names(self) -> list[str]:
        """The models that have a version."""
        with self._file.reading() as file:
            return [str(name) for (name,) in file.execute("SELECT DISTINCT name FROM versions ORDER BY name")]

    def versions(self, name: str) -> list[Version]:
        """All of a model, by number. UserError: there is no such model."""
        with self._file.reading() as file:
            return self._versions(file, name)

    def version(self, name: str, which: int | str) -> Version:
        """By number, or by stage ("production", "previous"). UserError: there is none."""
        return _one(self.versions(name), which)

    def find(self, name: str, digest: str) -> Version | None:
        """The version of that content."""
        with self._file.reading() as file:
            row = file.execute(
                f"SELECT {rows.VERSION} FROM versions WHERE name = ? AND digest = ?", (name, digest)
            ).fetchone()
        return rows.version_of(row, self.root) if row else None

    # --- stages

    def promote(
        self, name: str, number: int, *, by: str, verdict: Verdict | None = None, force: bool = False, why: str = ""
    ) -> Change:
        """The version becomes production, production previous; in the file alone: `promotion.promote` tells servers.

        Refused, unless `force`: without a verdict that passed, against what is production now; an archived version.
        """
        with self._file.writing() as file:
            found = self._versions(file, name)
            version = _one(found, number)
            held = _stages(found)
            if not force and version.stage is not Stage.PRODUCTION:
                verdict = verdict or self._standing(file, version)
                _check(version, verdict, stages.holder(held, Stage.PRODUCTION))
            why = why or ("by force" if force else verdict.sentence if verdict else "it is production already")
            return self._changed(file, version, held, "promote", stages.promoted(held, number), by, why, force)

    def rollback(self, name: str, *, by: str, why: str = "") -> Change:
        """Previous becomes production, and production previous. Refused: there is no previous one."""
        with self._file.writing() as file:
            found = self._versions(file, name)
            moves = stages.rolled_back(_stages(found), name)
            version = _one(found, moves[0].number)
            return self._changed(file, version, _stages(found), "rollback", moves, by, why or "rolled back")

    def archive(self, name: str, number: int, *, by: str, why: str = "") -> Change:
        """The version is set aside; its files stay. Refused: it is production."""
        with self._file.writing() as file:
            found = self._versions(file, name)
            version = _one(found, number)
            moves = stages.archived(_stages(found), name, number)
            return self._changed(file, version, _stages(found), "archive", moves, by, why or "set aside")

    def undo(self, change: Change, *, by: str, why: str) -> Change:
        """The stages as they were before that change. UserError: they were changed again since."""
        with self._file.writing() as file:
            found = self._versions(file, change.name)
            held, moves = _stages(found), stages.undone(change.moves)
            number = change.number if change.before is None else change.before
            version = _one(found, number)
            return self._changed(file, version, held, "undo", moves, by, why)

    def changes(self, name: str) -> list[Change]:
        """What became of its versions, oldest first; the stages are these moves, one after the other."""
        with self._file.reading() as file:
            found = file.execute(f"SELECT {rows.CHANGE} FROM changes WHERE name = ? ORDER BY id", (name,))
            return [rows.change_of(row) for row in found]

    # --- the gate

    def rule(self, name: str) -> GateRule | None:
        """What a version of that model must show; None: nothing was said."""
        with self._file.reading() as file:
            found = file.execute("SELECT rule FROM models WHERE name = ?", (name,)).fetchone()
        return rows.rule_of(found[0]) if found and found[0] else None

    def set_rule(self, name: str, rule: GateRule | None) -> None:
        """Also for a model that has no version yet."""
        amounts.name(name, "NAME")
        with self._file.writing() as file:
            self._known(file, name)
            file.execute("UPDATE models SET rule = ? WHERE name = ?", (rows.text(rule) if rule else None, name))

    def record(self, name: str, number: int, verdict: Verdict) -> None:
        """Keeps a gate's verdict, with its numbers."""
        self.version(name, number)
        with self._file.writing() as file:
            file.execute(
                "INSERT INTO verdicts (name, number, time_s, verdict) VALUES (?, ?, ?, ?)",
                (name, number, time.time(), rows.text(verdict)),
            )

    def standing(self, version: Version) -> Verdict | None:
        """The verdict by which it may be promoted: the last one, by the rule in force, against what is production."""
        with self._file.reading() as file:
            verdict = self._standing(file, version)
            production = stages.holder(_stages(self._listed(file, version.name)), Stage.PRODUCTION)
        return verdict if verdict is not None and verdict.against == production else None

    def verdicts(self, name: str, number: int) -> list[tuple[float, Verdict]]:
        """(unix seconds, verdict), oldest first."""
        with self._file.reading() as file:
            found = file.execute(
                "SELECT time_s, verdict FROM verdicts WHERE name = ? AND number = ? ORDER BY id", (name, number)
            ).fetchall()
        return [(float(time_s), rows.verdict_of(content)) for time_s, content in found]

    # --- servers

    def attend(self, name: str, admin: Path, pid: int, started: int) -> None:
        """From now on that process is told of promotions. To be called before it looks which version is production."""
        with self._file.writing() as file:
            file.execute("INSERT OR REPLACE INTO servers VALUES (?, ?, ?, ?)", (name, str(admin), pid, started))

    def leave(self, name: str, admin: Path) -> None:
        """Nobody waits for it any more."""
        with self._file.writing() as file:
            file.execute("DELETE FROM servers WHERE name = ? AND admin = ?", (name, str(admin)))

    def servers(self, name: str) -> list[Attendant]:
        """Those that live; the dead are forgotten."""
        with self._file.reading() as file:
            found = file.execute("SELECT name, admin, pid, started FROM servers WHERE name = ?", (name,)).fetchall()
        attending = [Attendant(name, Path(admin), pid, started) for _, admin, pid, started in found]
        dead = [one for one in attending if not process.alive(one.pid, one.started)]
        if dead:
            with self._file.writing() as file:
                file.executemany(
                    "DELETE FROM servers WHERE name = ? AND admin = ? AND pid = ? AND started = ?",
                    [(one.name, str(one.admin), one.pid, one.started) for one in dead],
                )
        return [one for one in attending if one not in dead]

    # --- within

    @contextmanager
    def _aside(self, name: str) -> Iterator[Path]:
        """A folder that is nobody's version yet, and goes unless it is given a name."""
        try:
            durable.clean(self.root, "")
            with durable.aside(self.root, secrets.token_hex(8)) as there:
                yield there
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise SpringtideError(f"{name} cannot be written to {self.root}: {reason}; nothing was added") from None

    def _entered(
        self, there: Path, name: str, recipe: Recipe, lineage: Lineage, metrics: Mapping[str, float], by: str
    ) -> tuple[Version, bool]:
        """Gives a finished folder its name, and makes its row; or finds the version of equal content."""
        with self._file.writing() as file:
            self._known(file, name)
            versions = self._listed(file, name)
            if same := next((one for one in versions if one.digest == recipe.digest), None):
                return same, False
            lineage = replace(lineage, parent=stages.holder(_stages(versions), Stage.PRODUCTION))
            number = max((one.number for one in versions), default=0) + 1
            path = self.root / name / str(number)
            version = Version(
                name, number, Stage.CANDIDATE, recipe.digest, recipe.build, recipe.config, metrics, lineage,
                time.time(), by, path, recipe.inputs,
            )  # fmt: skip
            _move_in(there, path)
            file.execute(f"INSERT INTO versions ({rows.VERSION}) VALUES ({','.join('?' * 11)})", rows.row_of(version))
            self._noted(file, version, "add", (Move(number, None, Stage.CANDIDATE),), by, "added", None, False)
            return version, True

    def _known(self, file: sqlite3.Connection, name: str) -> None:
        file.execute("INSERT OR IGNORE INTO models VALUES (?, NULL, ?)", (name, time.time()))

    def _listed(self, file: sqlite3.Connection, name: str) -> list[Version]:
        found = file.execute(f"SELECT {rows.VERSION} FROM versions WHERE name = ? ORDER BY number", (name,))
        return [rows.version_of(row, self.root) for row in found]

    def _versions(self, file: sqlite3.Connection, name: str) -> list[Version]:
        if found := self._listed(file, name):
            return found
        names = [str(one) for (one,) in file.execute("SELECT DISTINCT name FROM versions")]
        hint = nearest(name, names) or ("; `tide model ls` shows all" if names else "; `tide model add` makes one")
        raise UserError(f'there is no model "{name}"{hint}')

    def _standing(self, file: sqlite3.Connection, version: Version) -> Verdict | None:
        """The last verdict on record, where it was by the rule that is in force."""
        found = file.execute(
            "SELECT verdict, rule FROM verdicts JOIN models USING (name) WHERE name = ? AND number = ? "
            "ORDER BY id DESC LIMIT 1",
            (version.name, version.number),
        ).fetchone()
        verdict = rows.verdict_of(found[0]) if found else None
        if verdict is not None and found[1] and verdict.rule != rows.rule_of(found[1]):
            return None
        return verdict

    def _changed(
        self, file: sqlite3.Connection, version: Version, held: Stages, action: str, moves: Moves, by: str, why: str,
        forced: bool = False,
    ) -> Change:  # fmt: skip
        """Makes the moves, and notes them."""
        after = stages.applied(held, moves)
        # Out of the way first: at no instant, not even within, are there two of production.
        for stage in (str(Stage.ARCHIVED), None):
            file.executemany(
                "UPDATE versions SET stage = ? WHERE name = ? AND number = ?",
                [(stage or str(after[one.number]), version.name, one.number) for one in moves],
            )
        before = stages.holder(held, Stage.PRODUCTION)
        return self._noted(file, version, action, moves, by, why, before, forced)

    def _noted(
        self, file: sqlite3.Connection, version: Version, action: str, moves: Moves, by: str, why: str,
        before: int | None, forced: bool,
    ) -> Change:  # fmt: skip
        now_s = time.time()
        done = file.execute(
            "INSERT INTO changes (name, number, action, by, time_s, why, moves, before, forced) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (version.name, version.number, action, by, now_s, why, rows.text(moves), before, forced),
        )
        number = done.lastrowid or 0
        return Change(number, version.name, version.number, action, by, now_s, why, moves, before, forced)


def _check_config(config: Mapping[str, object]) -> None:
    """UserError: it could not be kept in `build.json` as it is."""
    try:
        json.dumps(config, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"config: {error}; give numbers, texts, lists and objects that JSON holds") from None


def _stages(versions: Iterable[Version]) -> dict[int, Stage]:
    return {one.number: one.stage for one in versions}


def _one(versions: Sequence[Version], which: int | str) -> Version:
    """By number or stage. UserError: none of these is it."""
    name, word = versions[0].name, str(which)
    found = [one for one in versions if str(one.number) == word or str(one.stage) == word]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(str(one.number) for one in found)
        raise UserError(f"{name} has {len(found)} versions that are {word}: {numbers}; write a number")
    if word in list(Stage):
        raise UserError(f"no version of {name} is {word}; `tide model ls {name}` shows what there is")
    last = versions[-1].number
    there = f"it has 1 to {last}" if last > 1 else "it has version 1 alone"
    raise UserError(f'{name} has no version "{word}"; {there}; a stage is one of {", ".join(Stage)}')


def _check(version: Version, verdict: Verdict | None, production: int | None) -> None:
    """Refused: nothing shows that it is good enough."""
    what, forced = f"version {version.number} of {version.name}", "--force promotes it all the same"
    if version.stage is Stage.ARCHIVED:
        raise Refused(f"{what} is archived; {forced}")
    if verdict is None:
        raise Refused(f"{what} was not judged, and there is no gate data: give --data FILE, or a rule; {forced}")
    if not verdict.passed:
        raise Refused(f"{what} did not pass the gate: {verdict.sentence}; {forced}")
    if verdict.against != production:
        then, now = (f"version {one}" if one else "no version" for one in (verdict.against, production))
        raise Refused(f"{what} was judged while {then} was production, and {now} is now: judge it again; {forced}")


def _joined(found: Source, said: Lineage | None, recipe: Recipe) -> Lineage:
    """What the caller says of a version's origin goes before what its source tells."""
    known = {} if said is None else {key: value for key, value in asdict(said).items() if value}
    return replace(found.lineage, **known, code_digest=recipe.code_digest)


def _move_in(there: Path, path: Path) -> None:
    """The name of a version may be that of a folder whose `add` died before it had made its row."""
    if not path.parent.is_dir():
        path.parent.mkdir()
        durable.sync(path.parent.parent)
    if path.exists():
        folder.remove(path)
    there.rename(path)
    durable.sync(path.parent)
    folder.protect(path)
