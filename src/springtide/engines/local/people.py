"""A user id for each team, where `tide up --user-per-team` was asked for as root: each sees its own files and /tmp."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.local.namespaces import no_new_privileges, private_folders
from springtide.spec.errors import SpringtideError

FIRST_UID = 61_000
_LAST_UID = 65_000
_OTHERS_MAY_PASS = stat.S_IXOTH
_OTHERS_MAY_READ = stat.S_IROTH
_PROBE_S = 60.0
_PUBLIC = ("/tmp", "/var/tmp")


@dataclass(frozen=True, slots=True)
class Person:
    """Whose a team's processes are. `home` is theirs; `tmp` is what they see as /tmp and /var/tmp."""

    uid: int
    gid: int
    home: Path
    tmp: Path

    def become(self, shown: Sequence[Path] = ()) -> None:
        """In the child before it becomes the program: a private /tmp, then this user, for ever. Raises OSError.

        `shown`: folders below /tmp that stay visible. It must be called while there is one thread.
        """
        public = [Path(name) for name in _PUBLIC if Path(name).is_dir()]
        private_folders(self.tmp, public, (*shown, self.home))
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        no_new_privileges()
        os.umask(0o077)

    def own(self, folder: Path) -> None:
        """The folder and what is in it are theirs alone; links are not followed. Raises OSError."""
        for at, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(at, name), self.uid, self.gid, follow_symlinks=False)
        os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        folder.chmod(0o700)


class People:
    """Who is who, kept in people.json of a folder; a number is never given twice, also not after its team is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "people.json"
        self._ids: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def person(self, team: str) -> Person:
        """The team's user; made when first asked for. Raises SpringtideError when there are no more numbers."""
        if team not in self._ids:
            self._ids = {**self._ids, team: _free_id(self._ids)}
            self._save()
        number, place = self._ids[team], self._folder / "teams" / team
        person = Person(number, number, place / "home", place / "tmp")
        person.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        person.tmp.mkdir(exist_ok=True)
        # The team may pass through `place` and not change it: what is mounted for them, root finds there unchanged.
        for folder in (self._folder, place.parent):
            folder.chmod(folder.stat().st_mode | _OTHERS_MAY_PASS)
        os.chown(place, 0, number)
        place.chmod(0o710)
        person.tmp.chmod(0o1777)
        os.chown(person.home, number, number)
        return person

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self._ids, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)


def _free_id(taken: Mapping[str, int]) -> int:
    """Above all that were given, and nobody's on this machine."""
    for number in range(max(taken.values(), default=FIRST_UID - 1) + 1, _LAST_UID):
        try:
            pwd.getpwuid(number)
        except KeyError:
            return number
    raise SpringtideError(f"all user ids from {FIRST_UID} to {_LAST_UID} are given to teams or users of this machine")


def refusal(interpreter: Path, folders: Sequence[Path] = (), module: str = "springtide") -> str | None:
    """Why a team's user could not run `interpreter` with `module` or reach `folders`, in one sentence; None: it can."""
    if os.geteuid() != 0:
        return (
            "--user-per-team: only root can give each team a user of its own; start the pool as root, or leave it away"
        )
    right = "put both where everybody may read them, for example below /opt, or leave --user-per-team away"
    if closed := closed_at(interpreter):
        return f"--user-per-team: a team's user could not run {interpreter}, since {closed}; {right}"
    for folder in folders:
        if closed := closed_at(folder, read=False):
            return f"--user-per-team: a team's user could not reach {folder}, since {closed}; set TIDE_HOME elsewhere"
    if failed := _probe(interpreter, module):
        return f"--user-per-team: a team's user could not import {module} with {interpreter} ({failed}); {right}"
    return None


def closed_at(path: Path, read: bool = True) -> str | None:
    """What on the way to `path`, through every link, is closed to users who neither own it nor share its group."""
    for at in _way(path):
        mode = at.stat().st_mode
        if stat.S_ISDIR(mode):
            if not mode & _OTHERS_MAY_PASS:
                return f"{at} is closed to others (mode {stat.S_IMODE(mode):04o})"
        elif read and not (mode & _OTHERS_MAY_READ and mode & _OTHERS_MAY_PASS):
            return f"{at} may not be read and run by others (mode {stat.S_IMODE(mode):04o})"
    return None


def _way(path: Path, links: int = 40) -> list[Path]:
    """Every folder that is passed, from the root on, and what is found at the end."""
    found, rest = [Path("/")], list(path.absolute().parts[1:])
    while rest:
        at = found[-1] / rest.pop(0) if found[-1].is_dir() else found[-1]
        if at.name == "..":
            at = at.parent.parent
        if at.is_symlink() and links:
            links -= 1
            target = at.parent / at.readlink()
            rest = [*target.parts[1:], *rest]
            found.append(Path("/"))
        elif at.exists():
            found.append(at)
        else:
            break
    return found


def _probe(interpreter: Path, module: str) -> str | None:
    """Whether such a user really can: the last line of what went wrong, or None."""
    try:
        done = subprocess.run(
            [interpreter, "-c", f"import {module}"], cwd="/", env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_PROBE_S, user=FIRST_UID, group=FIRST_UID, extra_groups=[],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"nothing came within {_PROBE_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
