"""The registry: whole versions or none, whatever is killed; numbers without gaps; nothing changes unseen."""

from __future__ import annotations

import itertools
import os
import random
import re
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from a_registry import SCALE, ended, forked, killed_at, scale, unchecked, weights, write

from springtide.serve.build import build_module
from springtide.serve.judging import GateRule, Scores, judge
from springtide.serve.registry import Registry, Stage, folder
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.train import process


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "models")


def _left(registry: Registry) -> set[str]:
    """What lies in the registry's folder beside the models and its file."""
    return {path.name for path in registry.root.iterdir() if path.name.startswith(".")}


def _all_whole(registry: Registry, name: str) -> list[int]:
    versions = registry.versions(name) if name in registry.names() else []
    for one in versions:
        folder.verified(one.path, one.digest, "a version")
    return [one.number for one in versions]


# --- add


def test_a_version_holds_all_that_builds_it(registry: Registry, tmp_path: Path) -> None:
    made = scale(registry, tmp_path, 3.0, config={"scale": 1.0}, metrics={"accuracy": 0.5}, by="ada")
    assert (made.number, made.stage, made.inputs, made.by) == (1, Stage.CANDIDATE, ("x",), "ada")
    assert (
        registry.version("scale", 1) == registry.version("scale", "1") == registry.version("scale", "candidate") == made
    )
    assert {path.name for path in made.path.rglob("*") if path.is_file()} == {
        "model.safetensors", "build.json", "scale_model.py",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o222 == 0 for path in (made.path, *made.path.rglob("*")))
    assert registry.root.stat().st_mode & 0o777 == 0o700
    (tmp_path / "scale_model.py").unlink()
    assert build_module(made)(2.0).item() == 6.0
    assert not _left(registry)


def test_equal_content_is_the_version_that_is_there(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        first = scale(registry, tmp_path, 1.0)
        again, new = registry.added(
            "scale", tmp_path / "1.0.safetensors", build="scale_model:build", code_from=tmp_path
        )
        assert (again, new) == (first, False)
        assert scale(registry, tmp_path, 2.0).number == 2
        write(tmp_path, scale_model=SCALE + "\n# other code\n")
        file = tmp_path / "1.0.safetensors"
        assert registry.add("scale", file, build="scale_model:build", code_from=tmp_path).number == 3
        config = {"scale": 2.0}
        assert registry.add("scale", file, build="scale_model:build", code_from=tmp_path, config=config).number == 4


def test_the_parent_is_what_was_production_then(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        assert scale(registry, tmp_path, 1.0).lineage.parent is None
        registry.promote("scale", 1, by="ada", force=True)
        assert scale(registry, tmp_path, 2.0).lineage.parent == 1


@pytest.mark.slow
def test_add_killed_at_any_instant_leaves_a_whole_version_or_none(tmp_path: Path) -> None:
    with unchecked():
        write(tmp_path, scale_model=SCALE)
        file = weights(tmp_path / "w.safetensors", scale=1.0)
        Registry.open(tmp_path / "models")

        def add(root: Path) -> Callable[[], object]:
            return lambda: Registry.open(root).add("scale", file, build="scale_model:build", code_from=tmp_path)

        seen: list[tuple[int, ...]] = []
        for count in itertools.count(1):
            root = tmp_path / f"killed-{count}"
            Registry.open(root)
            if not killed_at(count, add(root)):
                break
            registry = Registry.open(root)
            seen.append(tuple(_all_whole(registry, "scale")))
            assert registry.add("scale", file, build="scale_model:build", code_from=tmp_path).number == 1
            assert _all_whole(registry, "scale") == [1]
            assert not _left(registry)
            assert {path.name for path in (root / "scale").iterdir()} == {"1"}
        # Nothing, up to an instant from which on it is there.
        assert seen == sorted(seen) and set(seen) == {(), (1,)}


def test_a_real_add_that_is_killed_takes_the_process_that_builds_with_it(registry: Registry, tmp_path: Path) -> None:
    import running

    write(
        tmp_path,
        slow="import os, time\nopen('building', 'w').write(str(os.getpid()))\ntime.sleep(600)\n\ndef build(): pass\n",
    )
    file = weights(tmp_path / "w.safetensors", scale=1.0)

    def add() -> None:
        os.chdir(tmp_path)
        registry.add("slow", file, build="slow:build")

    pid = forked(add)
    built = tmp_path / "building"
    running.wait_until(lambda: built.exists() and built.read_text() != "", "the build has begun")
    builder = int(built.read_text())
    started = process.started(builder)
    os.kill(pid, 9)
    ended(pid)
    running.wait_until(lambda: not process.alive(builder, started), "the process that builds is gone")
    assert registry.names() == []


def test_many_writers_at_once_get_numbers_without_gaps(registry: Registry, tmp_path: Path) -> None:
    def adding(writer: int) -> Callable[[], object]:
        mine = tmp_path / str(writer)
        mine.mkdir()
        return lambda: [scale(Registry.open(registry.root), mine, 10.0 * writer + k) for k in range(5)]

    with unchecked():
        writers = [forked(adding(writer)) for writer in range(4)]
        assert [ended(pid) for pid in writers] == [0] * 4
    assert _all_whole(registry, "scale") == list(range(1, 21))
    assert not _left(registry)


def test_a_full_disk_leaves_nothing_and_is_said(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, scale_model=SCALE)
    file = weights(tmp_path / "w.safetensors", scale=[1.0] * 500_000)

    def add() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # what a full disk does to a writer
        with pytest.raises(SpringtideError, match=r"scale cannot be written to .*; nothing was added"):
            registry.add("scale", file, build="scale_model:build", code_from=tmp_path)

    assert ended(forked(add)) == 0
    assert registry.names() == [] and not _left(registry)


@pytest.mark.parametrize("config", [{"rate": float("nan")}, {"model": object()}])
def test_a_config_that_json_cannot_hold_is_refused(
    registry: Registry, tmp_path: Path, config: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"config: .*; give numbers, texts, lists and objects that JSON holds"):
        scale(registry, tmp_path, 1.0, config=config)


def test_what_is_no_name_is_said_with_one_that_would_be(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write my-model"):
        scale(registry, tmp_path, 1.0, name="My Model")


# --- what changed since


@pytest.mark.parametrize("what", ["code/scale_model.py", "model.safetensors", "build.json"])
def test_a_version_that_was_changed_since_is_named(registry: Registry, tmp_path: Path, what: str) -> None:
    with unchecked():
        made = scale(registry, tmp_path, 1.0)
    path = made.path / what
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        SpringtideError, match=f"version 1 of scale was changed since it was registered: .*{re.escape(what)}"
    ):
        build_module(made)


def test_code_that_was_put_beside_or_taken_away_is_named(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        made = scale(registry, tmp_path, 1.0)
    (made.path / "code").chmod(0o755)
    (made.path / "code" / "torch.py").write_text("evil = True\n")
    with pytest.raises(SpringtideError, match=r"torch\.py is new"):
        build_module(made)
    (made.path / "code" / "torch.py").unlink()
    (made.path / "code" / "scale_model.py").unlink()
    with pytest.raises(SpringtideError, match=r"scale_model\.py cannot be read \(no such file"):
        build_module(made)


# --- which version


def test_unknown_models_versions_and_stages_are_sentences(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`tide model add` makes one"):
        registry.versions("scale")
    with unchecked():
        scale(registry, tmp_path, 1.0)
    for name, which, sentence in (
        ("scal", 1, 'there is no model "scal"; did you mean "scale"'),
        ("scale", 2, 'scale has no version "2"; it has version 1 alone'),
        ("scale", "production", "no version of scale is production"),
        ("scale", "prod", 'scale has no version "prod"'),
        ("scale", "../1", "has no version"),
    ):
        with pytest.raises(UserError, match=sentence):
            registry.version(name, which)
    with unchecked():
        scale(registry, tmp_path, 2.0)
    with pytest.raises(UserError, match="scale has 2 versions that are candidate: 1, 2; write a number"):
        registry.version("scale", "candidate")


# --- promote


def test_only_who_passed_the_gate_is_promoted_without_force(registry: Registry, tmp_path: Path) -> None:
    good, bad = Scores({"accuracy": 0.9}, 10), Scores({"accuracy": 0.1}, 10)
    with unchecked():
        for value in (1.0, 2.0, 3.0):
            scale(registry, tmp_path, value)
    with pytest.raises(Refused, match="there is no gate data"):
        registry.promote("scale", 1, by="ada")
    registry.record("scale", 1, judge(good, None, GateRule(data="held.jsonl")))
    assert (
        registry.promote("scale", 1, by="ada").why
        == "accuracy is 0.9 on 10 records, there is no production to hold it against"
    )
    registry.record("scale", 2, judge(bad, good, GateRule(data="held.jsonl")))
    with pytest.raises(Refused, match=r"did not pass the gate: accuracy is 0\.1, worse than production's 0\.9"):
        registry.promote("scale", 2, by="ada")
    registry.record("scale", 3, judge(good, None, GateRule(data="held.jsonl")))
    with pytest.raises(Refused, match="judged while no version was production, and version 1 is now"):
        registry.promote("scale", 3, by="ada")
    change = registry.promote("scale", 2, by="eve", force=True)
    assert (change.forced, change.by, change.before) == (True, "eve", 1)
    assert registry.changes("scale")[-1] == change


def test_the_archived_and_the_production_cannot_be_moved_by_accident(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        for value in (1.0, 2.0):
            scale(registry, tmp_path, value)
    with pytest.raises(Refused, match="has no previous version to go back to"):
        registry.rollback("scale", by="ada")
    registry.promote("scale", 1, by="ada", force=True)
    with pytest.raises(Refused, match="version 1 of scale is production; promote another one first"):
        registry.archive("scale", 1, by="ada")
    registry.archive("scale", 2, by="ada")
    with pytest.raises(Refused, match="version 2 of scale is archived; --force promotes it all the same"):
        registry.promote("scale", 2, by="ada")
    assert registry.promote("scale", 1, by="ada").moves == ()


def test_promotions_of_many_processes_leave_one_production(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        for value in range(4):
            scale(registry, tmp_path, float(value))

    def promoting(seed: int) -> Callable[[], object]:
        chosen = random.Random(seed)
        return lambda: [registry.promote("scale", chosen.randint(1, 4), by=str(seed), force=True) for _ in range(10)]

    pids = [forked(promoting(seed)) for seed in range(3)]
    assert [ended(pid) for pid in pids] == [0] * 3
    held = [one.stage for one in registry.versions("scale")]
    assert (held.count(Stage.PRODUCTION), held.count(Stage.PREVIOUS)) == (1, 1)


def test_promote_killed_at_any_instant_is_done_or_not_begun(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        for value in (1.0, 2.0):
            scale(registry, tmp_path, value)
    registry.promote("scale", 1, by="ada", force=True)
    for count in itertools.count(1):
        killed = killed_at(count, lambda: registry.promote("scale", 2, by="ada", force=True))
        after = [str(one.stage) for one in registry.versions("scale")]
        assert after in (["production", "candidate"], ["previous", "production"])
        assert len(registry.changes("scale")) == (4 if after[1] == "production" else 3)
        if after[1] == "production":
            break
    assert killed and count > 4  # its last blow fell after the instant, and several before it


# --- servers


def test_servers_are_those_that_live(registry: Registry, tmp_path: Path) -> None:
    mine, pid = tmp_path / "mine.sock", os.getpid()
    registry.attend("scale", mine, pid, process.started(pid))
    registry.attend("scale", tmp_path / "used-again.sock", pid, 1)
    dead = forked(lambda: None)
    registry.attend("scale", tmp_path / "dead.sock", dead, process.started(dead))
    ended(dead)
    assert [(one.admin, one.pid) for one in registry.servers("scale")] == [(mine, pid)]
    registry.leave("scale", mine)
    assert registry.servers("scale") == []


# --- the file


def test_a_file_of_a_newer_springtide_and_one_that_is_none_are_sentences(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / "models")
    with sqlite3.connect(registry.root / "registry.sqlite") as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="written by a newer Springtide"):
        Registry.open(registry.root)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "registry.sqlite").write_text("this is no database, however long it may be\n" * 100)
    with pytest.raises(SpringtideError, match="cannot be used as the registry"):
        Registry.open(tmp_path / "other")


def test_a_registry_is_opened_by_many_at_once(tmp_path: Path) -> None:
    pids = [forked(lambda: Registry.open(tmp_path / "models").names()) for _ in range(8)]
    assert [ended(pid) for pid in pids] == [0] * 8


def test_a_verdict_by_another_rule_does_not_stand(registry: Registry, tmp_path: Path) -> None:
    with unchecked():
        made = scale(registry, tmp_path, 1.0)
    good, rule = Scores({"accuracy": 0.9}, 10), GateRule(data="held.jsonl")
    registry.set_rule("scale", rule)
    registry.record("scale", 1, judge(good, None, GateRule(data="held.jsonl", margin=1.0)))
    assert registry.standing(made) is None
    with pytest.raises(Refused, match="was not judged"):
        registry.promote("scale", 1, by="ada")
    registry.record("scale", 1, judge(good, None, rule))
    assert registry.standing(made) is not None
    assert registry.promote("scale", 1, by="ada").moves


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpringtideError, match="cannot be used as the registry: not a directory"):
        Registry.open(tmp_path / "file" / "models")
