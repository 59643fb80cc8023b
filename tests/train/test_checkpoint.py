"""Checkpoint law: complete or absent, named by step and digest, and damage is named instead of loaded."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.spec import SpringtideError, UserError
from springtide.train import checkpoint
from springtide.train.checkpoint import ManifestFields, Order, Tensor, Versions
from springtide.train.manifest import MANIFEST, STATE, decode, encode
from springtide.train.retention import Held, expired
from springtide.train.tensors import lay_out, parse

ORDER = Order(fingerprint="f00d", seed=3, batch_size=256, microbatches=8, sample=0.01, count=4096)


def a_state(seed: int = 0, size_bytes: int = 4000) -> list[Tensor]:
    """Tensors of several types and awkward sizes, cut into parts as the arena's chunks would be."""
    draw = np.random.default_rng(seed)
    weight, half = draw.bytes(size_bytes // 4 * 4), draw.bytes(14)
    cut = size_bytes // 3
    return [
        Tensor("model.weight", "F32", (size_bytes // 4,), (memoryview(weight)[:cut], memoryview(weight)[cut:])),
        Tensor("model.half", "BF16", (7,), (half,)),
        Tensor("model.steps", "I64", (), (draw.bytes(8),)),
        Tensor("model.mask", "BOOL", (3,), (b"\0\1\0",)),
        Tensor("model.nothing", "F32", (0, 5), ()),
    ]


def about(step: int, run_id: str = "run-a", **more: object) -> ManifestFields:
    return ManifestFields(name="digits", run_id=run_id, step=step, order=ORDER, **more)  # type: ignore[arg-type]


def steps_in(root: str | Path) -> list[int]:
    return [found.manifest.step for found in checkpoint.find(root) if found.manifest]


@pytest.fixture(params=["folder", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "checkpoints"
    yield {"folder": str(folder), "file": f"file://{folder}", "memory": f"memory:/{folder}"}[request.param]
    system = fsspec.filesystem("memory")
    if system.exists(str(tmp_path)):
        system.rm(str(tmp_path), recursive=True)


class TestWriting:
    def test_what_was_written_is_found_verified_and_read_back(self, root: str) -> None:
        written = checkpoint.write(root, a_state(), about(7, config={"clip_norm": 1.0}, position={"loss": 0.5}))
        found, problems = checkpoint.latest(root, run_id="run-a", name="digits")
        assert found is not None and found.manifest is not None and problems == []
        assert found.path == written.path and found.path.rsplit("/", 1)[1] == f"step-00000007-{written.digest[:8]}"
        assert written.digest == found.manifest.digest == checkpoint.digest(a_state())
        assert found.manifest.order == ORDER and found.manifest.config == {"clip_norm": 1.0}
        assert found.manifest.versions == Versions.here() and not found.manifest.finished
        stored = checkpoint.read(found.path)
        for tensor in a_state():
            assert stored[tensor.name].dtype == tensor.dtype and stored[tensor.name].shape == tensor.shape
            assert bytes(stored[tensor.name].data) == b"".join(map(bytes, tensor.parts))
            assert stored[tensor.name].data.readonly

    def test_64_mb_are_read_back_bit_equal_by_the_safetensors_library(self, tmp_path: Path) -> None:
        draw = np.random.default_rng(1)
        arrays = {
            "model.a": draw.standard_normal((4096, 2048), dtype=np.float32),
            "model.b": draw.standard_normal((1021, 2053)),
            "model.c": draw.integers(0, 255, (16 << 20) + 1, dtype=np.uint8),
            "model.d": draw.standard_normal(77).astype(np.float16),
        }
        names = {"float32": "F32", "float64": "F64", "uint8": "U8", "float16": "F16"}
        tensors = [Tensor(k, names[str(v.dtype)], v.shape, (memoryview(v),)) for k, v in arrays.items()]
        written = checkpoint.write(str(tmp_path), tensors, about(1))
        read = safetensors.numpy.load_file(f"{written.path}/{STATE}")
        assert written.bytes > 64e6 and set(read) == set(arrays)
        for name, array in arrays.items():
            assert np.array_equal(read[name], array) and read[name].dtype == array.dtype

    def test_the_same_state_again_becomes_finished_in_its_place(self, root: str) -> None:
        first = checkpoint.write(root, a_state(), about(7))
        second = checkpoint.write(root, a_state(), about(7, finished=True))
        assert first.path == second.path
        assert [found.manifest and found.manifest.finished for found in checkpoint.find(root)] == [True]
        assert checkpoint.latest(root)[1] == []

    def test_two_runs_that_reach_the_same_state_keep_a_checkpoint_each(self, root: str) -> None:
        paths = {checkpoint.write(root, a_state(), about(7, run)).path for run in ("run-a", "run-b", "run-a", "run-b")}
        assert len(paths) == 2
        for run in ("run-a", "run-b"):
            found, problems = checkpoint.latest(root, run_id=run)
            assert found is not None and found.manifest is not None and found.manifest.run_id == run and not problems

    def test_a_damaged_checkpoint_is_mended_when_its_step_is_written_again(self, tmp_path: Path) -> None:
        written = checkpoint.write(str(tmp_path), a_state(), about(7))
        flip(Path(written.path) / STATE, 8 * 300)
        assert checkpoint.latest(str(tmp_path))[0] is None
        assert checkpoint.write(str(tmp_path), a_state(), about(7)).path == written.path
        assert checkpoint.latest(str(tmp_path))[1] == []

    def test_pace_is_called_with_the_bytes_so_far_and_may_abandon_the_checkpoint(self, root: str) -> None:
        checkpoint.write(root, a_state(0), about(1))
        seen: list[int] = []
        size = checkpoint.write(root, a_state(1, 9 << 20), about(2), pace=seen.append).bytes
        assert seen == sorted(seen) and seen[-1] == size and len(seen) > 3

        def give_up(done: int) -> None:
            raise InterruptedError("enough")

        with pytest.raises(SpringtideError, match="enough"):
            checkpoint.write(root, a_state(2), about(3), pace=give_up)
        assert steps_in(root) == [2, 1]

    def test_a_diverged_run_keeps_its_nan_and_infinity(self, tmp_path: Path) -> None:
        position = {"loss": float("nan"), "best": float("-inf"), "seed": 2**80, "text": "Grüße"}
        checkpoint.write(str(tmp_path), a_state(), about(1, position=position))
        found = checkpoint.find(str(tmp_path))[0]
        assert found.manifest is not None and repr(found.manifest.position) == repr(position)

    @pytest.mark.parametrize("bad", [{"keep": 0}, {"keep_every": 0}])
    def test_nonsense_retention_is_refused_before_anything_is_there(self, tmp_path: Path, bad: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="begin at 1"):
            checkpoint.write(str(tmp_path / "new"), a_state(), about(1), **bad)  # type: ignore[arg-type]
        assert not (tmp_path / "new").exists()

    def test_an_unknown_protocol_is_one_sentence(self) -> None:
        with pytest.raises(UserError, match="nowhere"):
            checkpoint.write("nowhere://x", a_state(), about(1))

    def test_no_torch_is_imported(self) -> None:
        code = "import sys, springtide.train.checkpoint; sys.exit('torch' in sys.modules or 'fsspec' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDigest:
    @given(st.data())
    def test_it_does_not_depend_on_cuts_or_on_the_order_of_tensors(self, data: st.DataObject) -> None:
        content = data.draw(st.lists(st.binary(min_size=0, max_size=40), min_size=1, max_size=4))
        whole = [Tensor(f"t{i}", "U8", (len(raw),), (raw,)) for i, raw in enumerate(content)]
        cut = []
        for tensor, raw in zip(whole, content, strict=True):
            at = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=3)))
            edges = [0, *at, len(raw)]
            parts = tuple(memoryview(raw)[a:b] for a, b in pairwise(edges))
            cut.append(Tensor(tensor.name, tensor.dtype, tensor.shape, parts))
        assert checkpoint.digest(data.draw(st.permutations(cut))) == checkpoint.digest(whole)

    def test_name_type_shape_and_each_byte_count(self) -> None:
        states = [
            Tensor("a", "F32", (2, 1), (bytes(8),)),
            Tensor("b", "F32", (2, 1), (bytes(8),)),
            Tensor("a", "I32", (2, 1), (bytes(8),)),
            Tensor("a", "F32", (2,), (bytes(8),)),
            *(Tensor("a", "F32", (2, 1), (bytes(i) + b"\1" + bytes(7 - i),)) for i in range(8)),
        ]
        assert len({checkpoint.digest([state]) for state in states}) == len(states)

    def test_it_is_the_hash_of_the_file(self, tmp_path: Path) -> None:
        written = checkpoint.write(str(tmp_path), a_state(), about(1))
        content = Path(written.path, STATE).read_bytes()
        assert hashlib.blake2b(content, digest_size=16).hexdigest() == written.digest

    def test_parts_that_do_not_fill_the_shape_are_a_bug_that_is_shown(self) -> None:
        with pytest.raises(ValueError, match=r"a: F32 \[3\] is 12 bytes, got 8"):
            checkpoint.digest([Tensor("a", "F32", (3,), (bytes(8),))])


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with checkpoints of steps 1 and 2, and the path of the second."""
    root = tmp_path_factory.mktemp("two")
    checkpoint.write(str(root), a_state(1), about(1))
    return root, Path(checkpoint.write(str(root), a_state(2), about(2)).path)


class TestDamage:
    def expect_the_one_before(self, root: Path, named: Path) -> None:
        found, problems = checkpoint.latest(str(root), run_id="run-a")
        assert found is not None and found.manifest is not None and found.manifest.step == 1
        assert len(problems) == 1 and str(named) in problems[0]

    @given(st.data())
    @settings(deadline=None, max_examples=120)
    def test_a_flipped_bit_anywhere_is_found_and_the_one_before_is_used(
        self, two: tuple[Path, Path], data: st.DataObject
    ) -> None:
        root, newest = two
        file = newest / data.draw(st.sampled_from([STATE, MANIFEST]))
        whole = file.read_bytes()
        try:
            flip(file, data.draw(st.integers(0, 8 * len(whole) - 1)))
            self.expect_the_one_before(root, file)
        finally:
            file.write_bytes(whole)

    @given(st.data())
    @settings(deadline=None, max_examples=60)
    def test_a_file_cut_short_or_grown_is_found_without_reading_it(
        self, two: tuple[Path, Path], data: st.DataObject
    ) -> None:
        root, newest = two
        file = newest / data.draw(st.sampled_from([STATE, MANIFEST]))
        whole = file.read_bytes()
        try:
            length = data.draw(st.integers(0, len(whole)))
            file.write_bytes(whole[:length] if length < len(whole) else whole + b"x")
            assert [found.problem is None for found in checkpoint.find(str(root))] == [False, True]
            self.expect_the_one_before(root, file)
        finally:
            file.write_bytes(whole)

    @pytest.mark.parametrize("gone", [STATE, MANIFEST])
    def test_a_missing_file_is_named(self, tmp_path: Path, gone: str) -> None:
        checkpoint.write(str(tmp_path), a_state(1), about(1))
        newest = Path(checkpoint.write(str(tmp_path), a_state(2), about(2)).path)
        (newest / gone).unlink()
        self.expect_the_one_before(tmp_path, newest)

    def test_a_manifest_of_a_later_format_says_so(self, tmp_path: Path) -> None:
        checkpoint.write(str(tmp_path), a_state(1), about(1))
        newest = Path(checkpoint.write(str(tmp_path), a_state(2), about(2)).path) / MANIFEST
        manifest = decode(newest.read_bytes(), "m")
        later = encode(type(manifest)(**{n: getattr(manifest, n) for n in manifest.__struct_fields__} | {"format": 2}))
        newest.write_bytes(later)
        assert "has format 2; this Springtide reads format 1" in (checkpoint.find(str(tmp_path))[0].problem or "")

    def test_damage_in_a_remote_checkpoint_is_found_too(self, tmp_path: Path) -> None:
        root = f"memory:/{tmp_path}"
        system = fsspec.filesystem("memory")
        checkpoint.write(root, a_state(1), about(1))
        state = checkpoint.write(root, a_state(2), about(2)).path + "/" + STATE
        content = bytearray(system.cat_file(state))
        content[-1] ^= 1
        system.pipe_file(state, bytes(content))
        found, problems = checkpoint.latest(root)
        assert found is not None and found.manifest is not None and found.manifest.step == 1 and state in problems[0]
        system.rm(str(tmp_path), recursive=True)

    def test_the_rows_show_what_is_damaged(self, tmp_path: Path) -> None:
        written = checkpoint.write(str(tmp_path), a_state(1), about(1, finished=True))
        torn = Path(checkpoint.write(str(tmp_path), a_state(2), about(2)).path)
        flipped = Path(checkpoint.write(str(tmp_path), a_state(3), about(3)).path)
        (torn / MANIFEST).write_bytes(b"{")
        flip(flipped / STATE, 8 * 2000)
        assert [(row.step, row.problem is None) for row in checkpoint.rows(tmp_path, False) if row.step != 2] == [
            (3, True), (1, True)
        ]  # fmt: skip
        rows = {row.step: row for row in checkpoint.rows(tmp_path, verify=True)}
        assert rows[3].problem is not None and rows[2].problem is not None and rows[2].digest is None
        assert rows[1] == checkpoint.Row(1, written.digest, rows[1].time, written.bytes, True, written.path, None)


class TestHeader:
    def file(self, entries: object, body: bytes) -> memoryview:
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        return memoryview(len(text).to_bytes(8, "little") + text + body)

    @pytest.mark.parametrize(
        ("entries", "complaint"),
        [
            ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, "end at byte 4 of 8"),
            ({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, "end at byte 9 of 8"),
            ({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, "begins at byte 4 where 0 was due"),
            (
                {"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
                 "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}},
                "'b' begins at byte 4 where 8 was due",
            ),
            ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, "has 8 bytes where F32"),
            ({"a": {"dtype": "U8", "shape": [-8], "data_offsets": [8, 0]}}, "whole numbers"),
            ({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, "whole numbers"),
            ({"a": {"dtype": "PY", "shape": [8], "data_offsets": [0, 8]}}, "unknown element type 'PY'"),
            ({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8], "code": "x"}}, "exactly dtype"),
            (["a"], "not a JSON object"),
            (b'{"a":1,"a":2}', "occurs twice"),
            (b"{\xff}", "malformed header"),
            (b"[" * 100_000, "malformed header"),
        ],
    )  # fmt: skip
    def test_a_malformed_header_is_one_sentence(self, entries: object, complaint: str) -> None:
        with pytest.raises(SpringtideError, match=r"^here ") as raised:
            parse(self.file(entries, bytes(8)), "here")
        assert complaint in str(raised.value)

    @given(st.data())
    @settings(deadline=None)
    def test_whatever_lies_in_the_file_the_reader_answers_with_tensors_or_a_sentence(self, data: st.DataObject) -> None:
        layout = lay_out(a_state(1, 64))
        content = bytearray(b"".join(layout.blocks()))
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(layout.header) - 1))] = data.draw(st.integers(0, 255))
        try:
            stored = parse(memoryview(bytes(content)), "here")
        except SpringtideError as error:
            assert str(error).startswith("here ")
        else:
            assert sum(len(one.data) for one in stored.values()) == layout.size_bytes - len(layout.header)


class TestRetention:
    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.booleans()), unique_by=lambda one: one[:2]),
        st.integers(1, 5),
        st.one_of(st.none(), st.integers(1, 9)),
        st.integers(0, 30),
    )
    def test_its_laws(self, drawn: list[tuple[str, int, bool]], keep: int, keep_every: int | None, step: int) -> None:
        held = {Held(f"{run}{n}", run, n, good) for run, n, good in drawn if (run, n) != ("a", step)}
        held.add(Held(f"a{step}", "a", step, True))
        gone = expired(held, run_id="a", step=step, keep=keep, keep_every=keep_every)
        left = held - set(gone)
        assert all(one.run_id == "a" and one.step < step for one in gone)
        mine = sorted((one.step for one in held if one.run_id == "a" and one.good and one.step <= step), reverse=True)
        assert {one.step for one in left if one.run_id == "a" and one.good} >= set(mine[:keep])
        if keep_every:
            assert {n for n in mine if n % keep_every == 0} <= {one.step for one in left}
        ordinary = [n for n in mine[keep:] if not (keep_every and n % keep_every == 0)]
        assert {one.step for one in gone if one.good} == set(ordinary)
        assert expired(left, run_id="a", step=step, keep=keep, keep_every=keep_every) == []

    def test_the_newest_and_every_nth_stay_and_other_runs_are_not_touched(self, root: str) -> None:
        checkpoint.write(root, a_state(99), about(1, "run-b"))
        for step in range(1, 12):
            assert checkpoint.write(root, a_state(step), about(step), keep=2, keep_every=4).warnings == ()
        assert steps_in(root) == [11, 10, 8, 4, 1]
        found = checkpoint.latest(root, run_id="run-b")[0]
        assert found is not None and found.manifest is not None and found.manifest.run_id == "run-b"

    def test_the_newest_run_comes_first_whatever_its_step(self, root: str) -> None:
        for step in (10, 20):
            checkpoint.write(root, a_state(step), about(step, "old"))
        checkpoint.write(root, a_state(1), about(1, "new"))
        assert steps_in(root) == [1, 20, 10]

    def test_what_an_unfinished_upload_left_goes_with_the_next_of_its_run_only(self, tmp_path: Path) -> None:
        root = f"memory:/{tmp_path}"
        system = fsspec.filesystem("memory")
        for run, name in (("run-a", "step-00000005-aaaaaaaa"), ("run-b", "step-00000005-bbbbbbbb")):
            system.pipe_file(f"{tmp_path}/{name}/writing", run.encode())
            system.pipe_file(f"{tmp_path}/{name}/{STATE}", b"half")
        checkpoint.write(root, a_state(), about(6))
        names = {name.rsplit("/", 1)[1][:22] for name in system.ls(str(tmp_path), detail=False)}
        assert names == {"step-00000006-" + checkpoint.digest(a_state())[:8], "step-00000005-bbbbbbbb"}
        system.rm(str(tmp_path), recursive=True)


PRELUDE = """
import os, random, signal, sys, time
from springtide.train import checkpoint
from springtide.train.checkpoint import ManifestFields, Order, Tensor
root, seed = sys.argv[1], int(sys.argv[2])
order = Order(fingerprint="f", seed=1, batch_size=8, microbatches=2)
def save(step, size, run_id="run-a", **more):
    raw = random.Random(step).randbytes(size)
    state = [Tensor("a", "U8", (size,), (raw,)), Tensor("b", "I64", (), (step.to_bytes(8, "little"),))]
    return checkpoint.write(root, state, ManifestFields(name="r", run_id=run_id, step=step, order=order), **more)
"""

# In a clean process of one thread, so that forking is safe and a round costs milliseconds.
KILLED_AT_RANDOM = (
    PRELUDE
    + """
draw = random.Random(seed)
save(1, 6 << 20)
begun = time.perf_counter(); save(2, 6 << 20); usual = time.perf_counter() - begun
for step in range(3, 3 + int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        save(step, 6 << 20, keep=2)
        os._exit(0)
    time.sleep(draw.uniform(0, 1.5 * usual))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    bad = [f.problem for f in map(checkpoint.verify, checkpoint.find(root)) if f.problem]
    good = [f.manifest.step for f in checkpoint.find(root)]
    if bad or len(good) < 2 or (status == 0 and good[0] != step):
        sys.exit(f"after the kill in step {step}: {bad} {good}")
save(1000, 100)
left = [name for name in os.listdir(root) if not name.startswith("step-")]
sys.exit(f"left behind: {left}" if left else 0)
"""
)

KILLED_AT_EACH_CALL = (
    PRELUDE
    + """
def dies_at(call):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event == "open" or event.split(".")[0] in ("os", "fcntl", "shutil"):
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
calls = 0
for step in range(2, 500):
    save(step - 1, 1000, keep=2)
    child = os.fork()
    if child == 0:
        dies_at(calls + 1)
        save(step - step % 2, 1000, keep=2)  # by turns a new step, and one that is there
        os._exit(0)
    calls += 1 - step % 2
    _, status = os.waitpid(child, 0)
    found = [checkpoint.verify(f) for f in checkpoint.find(root)]
    if any(f.problem for f in found) or step - 1 not in [f.manifest.step for f in found]:
        sys.exit(f"dead at call {calls} of step {step}: {found}")
    if status == 0 and step % 2 == 0:
        print(calls)
        sys.exit(0 if calls > 20 else "the hook saw too little")
sys.exit("never reached the end")
"""
)

KILLED_WHILE_ANOTHER_CLEANS = (
    PRELUDE
    + """
child = os.fork()
if child == 0:
    save(5, 1000, "run-b", pace=lambda done: os.kill(os.getpid(), signal.SIGSTOP))
    os._exit(0)
os.waitpid(child, os.WUNTRACED)
save(6, 1000, "run-a")
living = [name for name in os.listdir(root) if not name.startswith("step-")]
os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
save(7, 1000, "run-a")
dead = [name for name in os.listdir(root) if not name.startswith("step-")]
sys.exit(0 if len(living) == 1 and dead == [] else f"{living} {dead}")
"""
)

CHILD_OUT_OF_ROOM = (
    PRELUDE
    + """
save(1, 1000); save(2, 1000); save(3, 1000)
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (seed, resource.RLIM_INFINITY))
try:
    save(4, 3_000_000, keep=1)
except checkpoint.SpringtideError as error:
    print(error)
"""
)


def run_script(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


class TestKill:
    def test_a_writer_killed_at_any_instant_leaves_it_complete_or_absent(self, tmp_path: Path) -> None:
        run_script(KILLED_AT_RANDOM, tmp_path, random.SystemRandom().getrandbits(32), 30)

    @pytest.mark.long
    def test_a_writer_killed_at_any_instant_a_thousand_times(self, tmp_path: Path) -> None:
        run_script(KILLED_AT_RANDOM, tmp_path, random.SystemRandom().getrandbits(32), 1000)

    def test_a_writer_killed_before_each_of_its_file_operations(self, tmp_path: Path) -> None:
        run_script(KILLED_AT_EACH_CALL, tmp_path, 0)

    def test_unfinished_work_is_left_to_the_living_and_cleaned_after_the_dead(self, tmp_path: Path) -> None:
        run_script(KILLED_WHILE_ANOTHER_CLEANS, tmp_path, 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root; the test with a limit on file sizes stands in")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this machine does not let root mount a tmpfs: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


class TestFullDisk:
    def expect_untouched(self, disk: Path, message: str, needed: str) -> None:
        assert "the checkpoint of step 3 could not be written to" in message and str(disk) in message
        assert "no space left on device" in message and f"it needs {needed} MB" in message and "MB are free" in message
        assert steps_in(disk) == [2, 1] and checkpoint.latest(disk)[1] == []
        assert [path.name for path in disk.iterdir() if path.name.startswith(".aside")] == []

    def test_a_disk_without_room_is_told_before_the_first_byte(self, small_disk: Path) -> None:
        for step in (1, 2):
            checkpoint.write(small_disk, a_state(step, 4 << 20), about(step))
        with pytest.raises(SpringtideError) as raised:
            checkpoint.write(small_disk, a_state(3, 12 << 20), about(3), keep=1, pace=lambda done: pytest.fail("wrote"))
        self.expect_untouched(small_disk, str(raised.value), "12.6")

    def test_a_disk_that_fills_up_meanwhile_leaves_the_older_ones(self, small_disk: Path) -> None:
        for step in (1, 2):
            checkpoint.write(small_disk, a_state(step, 2 << 20), about(step))
        other = small_disk / "other"

        def another_fills_it(done: int) -> None:
            if not other.exists():
                with pytest.raises(OSError, match="No space"), other.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 20))

        with pytest.raises(SpringtideError) as raised:
            checkpoint.write(small_disk, a_state(3, 9 << 20), about(3), keep=1, pace=another_fills_it)
        self.expect_untouched(small_disk, str(raised.value), "9.4")
        other.unlink()
        checkpoint.write(small_disk, a_state(3, 9 << 20), about(3), keep=1)
        assert steps_in(small_disk) == [3]

    def test_a_limit_on_file_sizes_is_met_in_the_same_way(self, tmp_path: Path) -> None:
        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            pytest.skip("this process has a limit on file sizes already")
        message = run_script(CHILD_OUT_OF_ROOM, tmp_path, 1_500_000)
        assert "step 4 could not be written" in message and "file too large; it needs 3.0 MB" in message
        assert steps_in(tmp_path) == [3, 2, 1]
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".aside")] == []

    def test_a_root_that_is_a_file_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(SpringtideError, match=r"could not be written to .*file"):
            checkpoint.write(tmp_path / "file", a_state(), about(1))
