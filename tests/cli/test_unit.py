"""The systemd unit of `tide up --service`."""

from __future__ import annotations

from pathlib import Path

import pytest

from springtide.cli import starting, unit


def test_a_unit_starts_the_same_server_in_the_same_home() -> None:
    command = starting.command(starting.server_words({"virtual": "4x1cpu,2Gi", "user_per_team": True, "listen": None}))
    lines = unit.text(command, Path("/srv/tide"), root=True).splitlines()
    assert "Environment=TIDE_HOME=/srv/tide" in lines
    assert any(line.endswith("-m springtide.pool.server --virtual 4x1cpu,2Gi --user-per-team") for line in lines)
    assert "WantedBy=multi-user.target" in lines
    assert "KillMode=process" in lines and "Delegate=yes" in lines


def test_a_unit_quotes_what_systemd_would_take_for_its_own() -> None:
    text = unit.text(["/opt/my venv/python", "100%", "$HOME"], Path("/a b"), root=False)
    assert 'ExecStart="/opt/my venv/python" "100%%" "$$HOME"' in text
    assert 'Environment="TIDE_HOME=/a b"' in text
    assert "WantedBy=default.target" in text


def test_root_writes_the_machines_unit_and_others_their_own(tmp_path: Path) -> None:
    assert unit.path(True, {}) == Path("/etc/systemd/system/springtide.service")
    place = unit.path(False, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert place == tmp_path / "systemd" / "user" / "springtide.service"


def test_a_unit_is_written_and_the_command_that_enables_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    place, enable = unit.install(["python"], tmp_path)
    assert place.read_text().startswith("[Unit]")
    assert enable == "systemctl --user enable --now springtide"


def test_files_of_the_server_are_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = starting.server_words({"pool": "pool.yaml", "tls_cert": None, "virtual": "4x1cpu"})
    assert words == ["--pool", str(tmp_path / "pool.yaml"), "--virtual", "4x1cpu"]
