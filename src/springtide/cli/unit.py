"""The systemd unit that starts the pool with the machine (as root) or with its user."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from springtide.spec.errors import SpringtideError

NAME = "springtide.service"


def path(root: bool, environment: Mapping[str, str]) -> Path:
    """Where the unit belongs: the machine's, or the user's own."""
    if root:
        return Path("/etc/systemd/system") / NAME
    settings = environment.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "systemd" / "user" / NAME


def text(command: Sequence[str], home: Path, root: bool) -> str:
    """The unit. Jobs outlive the server (KillMode), and their limits are the server's to set (Delegate)."""
    return "\n".join(
        [
            "[Unit]",
            "Description=Springtide pool",
            "Documentation=https://github.com/springtide/springtide",
            "After=network.target",
            "",
            "[Service]",
            "Type=exec",
            f"Environment={_quoted(f'TIDE_HOME={home}')}",
            f"ExecStart={' '.join(map(_quoted, command))}",
            "Restart=always",
            "RestartSec=1",
            "KillMode=process",
            "Delegate=yes",
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if root else 'default.target'}",
            "",
        ]
    )


def _quoted(word: str) -> str:
    """One word as systemd reads it: percent signs and dollars stand for themselves."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word or not word else word


def install(command: Sequence[str], home: Path) -> tuple[Path, str]:
    """Write the unit; its path, and the command that turns it on."""
    root = os.geteuid() == 0
    place = path(root, os.environ)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text(command, home, root))
    except OSError as error:
        raise SpringtideError(f"{place}: the unit cannot be written ({(error.strerror or '').lower()})") from None
    scope = [] if root else ["--user"]
    if shutil.which("systemctl"):
        subprocess.run(["systemctl", *scope, "daemon-reload"], check=False, capture_output=True)
    return place, " ".join(["systemctl", *scope, "enable", "--now", "springtide"])
