"""Building a version: its own code and no other, its weights strictly, and one sentence for whatever is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from a_registry import SCALE, scale, unchecked, weights, write
from safetensors.torch import save_file

from springtide.serve.build import build_module, inputs_of
from springtide.serve.registry import Registry, Version
from springtide.spec.errors import SpringtideError, UserError


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "models")


def _made(registry: Registry, folder: Path, build: str = "mine:build", *, name: str = "m", **words: object) -> Version:
    """Registered with what lies in the folder, and w.safetensors, without a look whether it builds."""
    with unchecked():
        return registry.add(name, folder / "w.safetensors", build=build, code_from=folder, **words)


# --- whose code


def test_two_versions_with_other_code_of_one_name_live_in_one_process(registry: Registry, tmp_path: Path) -> None:
    weights(tmp_path / "w.safetensors", scale=3.0)
    write(tmp_path, scale_model=SCALE)
    first = _made(registry, tmp_path, "scale_model:build")
    write(tmp_path, scale_model=SCALE.replace("self.scale * x", "self.scale + x"))
    second = _made(registry, tmp_path, "scale_model:build")
    one, other = build_module(first), build_module(second)
    assert (one(4.0).item(), other(4.0).item(), one(5.0).item()) == (12.0, 7.0, 15.0)
    assert type(one).__name__ == type(other).__name__ and type(one) is not type(other)
    assert "scale_model" not in sys.modules


def test_a_versions_modules_import_each_other_in_every_way_there_is(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        mine="""
import parts.deep.one
import parts.deep.two as second
import parts, plain
from parts import name, deep
from parts.deep.one import ONE
import os, torch.nn as nn
from plain import *


def build():
    import late
    from parts.deep import two

    assert (parts.deep.one.ONE, second.TWO, name, deep.two.TWO, ONE, plain.PLAIN, STAR) == (1, 2, "parts", 2, 1, 4, 5)
    assert late.LATE == two.TWO + 1 and os.sep == "/"
    return nn.Linear(1, 1)
""",
        parts____init__="from .deep import one\nname = 'parts'\n",
        parts__deep____init__="",
        parts__deep__one="from . import two\nfrom ..numbers_ import ONE\nassert two.TWO == 2\n",
        parts__deep__two="TWO = 2\n",
        parts__numbers_="ONE = 1\n",
        plain="PLAIN = 4\nSTAR = 5\n",
        late="from parts.deep.two import TWO\nLATE = TWO + 1\n",
        unused="raise SystemError\n",
    )
    save_file(torch.nn.Linear(1, 1).state_dict(), tmp_path / "w.safetensors")
    made = _made(registry, tmp_path)
    assert {path.relative_to(made.path / "code").as_posix() for path in (made.path / "code").rglob("*.py")} == {
        "mine.py", "plain.py", "late.py", "parts/__init__.py", "parts/numbers_.py", "parts/deep/__init__.py",
        "parts/deep/one.py", "parts/deep/two.py",
    }  # fmt: skip
    for path in tmp_path.glob("*.py"):
        path.unlink()
    assert isinstance(build_module(made), torch.nn.Linear)
    assert not list(made.path.rglob("__pycache__"))


def test_a_package_of_ones_own_is_found_beside_an_installed_one_of_its_name(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path, mine="import numpy, yaml\nfrom torch import nn\n\ndef build(): return nn.Linear(*yaml.SIZES)\n")
    write(tmp_path, yaml="SIZES = 1, 1\n", numpy__not_a_package="raise SystemError\n")
    save_file(torch.nn.Linear(1, 1).state_dict(), tmp_path / "w.safetensors")
    made = _made(registry, tmp_path)
    assert {path.name for path in (made.path / "code").iterdir()} == {"mine.py", "yaml.py"}
    assert build_module(made).in_features == 1


def test_modules_are_found_in_the_callers_folder_first_and_then_by_pythonpath(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = write(tmp_path / "near", width="WIDTH = 2\n"), write(tmp_path / "far", width="WIDTH = 3\n")
    write(far, mine="import torch, width\n\ndef build(): return torch.nn.Linear(width.WIDTH, 1)\n")
    save_file(torch.nn.Linear(2, 1).state_dict(), near / "w.safetensors")
    monkeypatch.setenv("PYTHONPATH", f"{far}:{tmp_path / 'nowhere'}")
    assert build_module(_made(registry, near)).in_features == 2


def test_what_a_build_draws_is_the_same_each_time_and_draws_nothing_of_the_callers(
    registry: Registry, tmp_path: Path
) -> None:
    write(
        tmp_path,
        mine="""
import random

import numpy as np
import torch

class Noise(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.zeros(1))
        drawn = [torch.rand(1).item(), random.random(), np.random.rand()]
        self.register_buffer("noise", torch.tensor(drawn), persistent=False)
        self.drop = torch.nn.Dropout()

    def forward(self, first, /, second, *rest, third=None, **more):
        return self.noise

build = Noise
""",
    )
    weights(tmp_path / "w.safetensors", kept=[1.0])
    made = _made(registry, tmp_path)
    before = torch.random.get_rng_state()
    one, other = build_module(made), build_module(made)
    assert torch.equal(one.noise, other.noise)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not one.training and not one.drop.training
    assert inputs_of(one) == ("first", "second", "third")


# --- whose weights


def test_tied_parameters_need_to_be_there_once(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path,
        mine="""
import torch

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.there = torch.nn.Linear(2, 2, bias=False)
        self.back = torch.nn.Linear(2, 2, bias=False)
        self.back.weight = self.there.weight

build = Tied
""",
    )
    weights(tmp_path / "w.safetensors", back__weight=[[1.0, 2.0], [3.0, 4.0]])
    module = build_module(_made(registry, tmp_path))
    assert module.there.weight is module.back.weight
    assert module.there.weight.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"weight": [[1.0, 2.0]], "bias": [0.0], "more": [1.0]}, r"more float32\[1\] is not in the module"),
        ({"weight": [[1.0, 2.0]]}, r"bias float32\[1\] is missing"),
        ({"weight": [[1.0]], "bias": [0.0]}, r"weight is float32\[1, 1\], the module has float32\[1, 2\]"),
        ({"weight": [[1, 2]], "bias": [0.0]}, r"weight is int64\[1, 2\], the module has float32\[1, 2\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    registry: Registry, tmp_path: Path, tensors: dict[str, object], sentence: str
) -> None:
    write(tmp_path, mine="import torch\n\ndef build(): return torch.nn.Linear(2, 1)\n")
    weights(tmp_path / "w.safetensors", **tensors)
    with pytest.raises(SpringtideError, match=f"version 1 of m: its weights do not fit what is built: {sentence}"):
        build_module(_made(registry, tmp_path))


# --- what does not build


@pytest.mark.parametrize(
    ("code", "config", "sentence"),
    [
        ("def build(): return 3\n", {}, r"mine:build returned int; return a torch\.nn\.Module"),
        ("def build(): return 1 / 0\n", {}, r"cannot be built by mine:build: mine\.py:1: ZeroDivisionError: division"),
        ("import nowhere_to_be_found\ndef build(): pass\n", {}, r"mine\.py:1: ModuleNotFoundError: No module named"),
        ("def build(width): pass\n", {}, r"the config given \(nothing\): missing a required argument: 'width'"),
        ("def build(width): pass\n", {"wdth": 1}, r"does not take the config given \(wdth=1\)"),
        ("for build in (): pass\n", {}, r"the module mine has no function build; define it there"),
        ("def build(): raise SystemExit(3)\n", {}, r"cannot be built by mine:build: mine\.py:1: SystemExit: 3"),
    ],
)  # fmt: skip
def test_a_build_that_fails_says_where_and_why(
    registry: Registry, tmp_path: Path, code: str, config: dict[str, object], sentence: str
) -> None:
    write(tmp_path, mine=code)
    weights(tmp_path / "w.safetensors", scale=1.0)
    with pytest.raises(SpringtideError, match=sentence):
        build_module(_made(registry, tmp_path, config=config))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        ("mine", r'"mine" names no function; write MODULE:FUNCTION'),
        ("mine:build()", "names no function"),
        ("../mine:build", "names no function"),
        ("mnie:build", r'there is no module mnie; did you mean "mine"'),
        ("other:build", "there is no module other; looked in"),
        ("mine:biuld", r'has no biuld; did you mean "build"'),
        ("broken:build", r"broken\.py:1 is no Python"),
        ("torch:load", "there is no module torch"),
    ],
)
def test_a_build_that_is_not_there_is_said_before_anything_is_written(
    registry: Registry, tmp_path: Path, build: str, sentence: str
) -> None:
    write(tmp_path, mine="def build(): pass\n", broken="def build(:\n")
    weights(tmp_path / "w.safetensors", scale=1.0)
    with pytest.raises(UserError, match=sentence):
        _made(registry, tmp_path, build)
    assert registry.names() == []


@pytest.mark.slow
def test_registration_tries_the_build_out_of_reach_of_the_callers_folder(registry: Registry, tmp_path: Path) -> None:
    write(
        tmp_path, mine="import importlib\n\ndef build(): return importlib.import_module('hidden').make()\n", hidden=""
    )
    weights(tmp_path / "w.safetensors", scale=1.0)
    with pytest.raises(UserError, match=r"mine\.py:3: ModuleNotFoundError: No module named 'hidden'"):
        registry.add("m", tmp_path / "w.safetensors", build="mine:build", code_from=tmp_path)
    write(tmp_path, mine="import os\n\nprint('noise')\n\ndef build(): os.kill(os.getpid(), 9)\n")
    with pytest.raises(SpringtideError, match="the process that builds the model was killed by SIGKILL"):
        registry.add("m", tmp_path / "w.safetensors", build="mine:build", code_from=tmp_path)
    write(tmp_path, mine=SCALE.replace("return Scale(scale)", "print('noise'); return Scale(scale)"))
    made = registry.add("m", tmp_path / "w.safetensors", build="mine:build", code_from=tmp_path)
    assert (made.number, made.inputs) == (1, ("x",))
    assert {path.name for path in registry.root.iterdir()} == {"registry.sqlite", "m"}
    assert scale(registry, tmp_path, 1.0, name="m").number == 2
