"""Jars from Maven, fetched once a machine."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
KEPT = Path.home() / ".cache" / "springtide"
FETCHES_S = 600.0


class Missing(Exception):
    """What this machine lacks, in one sentence."""


def fetched(name: str, what: str) -> Path:
    """The folder with the jars that NAME_pom.xml asks for. Raises `Missing`."""
    missing = [word for word, command in (("Java", "java"), ("Maven", "mvn")) if shutil.which(command) is None]
    if missing:
        raise Missing(f"a real {what} needs {' and '.join(missing)} (Debian: apt install default-jdk-headless maven)")
    pom = HERE / f"{name}_pom.xml"
    target = KEPT / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            aside = KEPT / f"{target.name}.new"
            shutil.rmtree(aside, ignore_errors=True)
            words = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={aside}"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=FETCHES_S, check=False)
            if done.returncode:
                raise AssertionError(f"Maven could not fetch {what}:\n{(done.stdout + done.stderr).strip()[-2000:]}")
            aside.rename(target)
    return target
