"""A plain module out of a checkpoint: the same tensors, strictly, and nothing executed."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch
from torch import nn

from springtide.spec import SpringtideError, UserError
from springtide.train import checkpoint
from springtide.train.checkpoint import ManifestFields, Order, Tensor
from springtide.train.plain import _DTYPES, load

NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def a_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    body = [nn.Linear(8, 8) for _ in range(11)]
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), *body, nn.Linear(8, 2, dtype=torch.bfloat16))


class Tied(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, width)
        self.out = nn.Linear(width, 9, bias=False)
        self.out.weight = self.embed.weight


def save(root: Path | str, model: nn.Module, step: int = 1, skip: tuple[str, ...] = (), **config: object) -> str:
    """A checkpoint of a model's state, with optimizer tensors beside it as the runtime writes them."""
    tensors = [Tensor("optimizer.0.weight.exp_avg", "F32", (2,), (bytes(8),))]
    for name, value in model.state_dict().items():
        if name not in skip:
            raw = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            tensors.append(Tensor(f"model.{name}", NAMES[value.dtype], tuple(value.shape), (raw,)))
    order = Order(fingerprint="f", seed=1, batch_size=8, microbatches=2)
    about = ManifestFields(name="r", run_id="r", step=step, order=order, config=config)
    return checkpoint.write(str(root), tensors, about).path


def expect_equal(loaded: nn.Module, model: nn.Module) -> None:
    got, wanted = loaded.state_dict(), model.state_dict()
    assert set(got) == set(wanted)
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype and torch.equal(got[name], wanted[name]), name


def test_without_a_model_a_plain_tree_has_its_parameters_and_buffers(tmp_path: Path) -> None:
    model = a_net()
    loaded = load(save(tmp_path, model))
    expect_equal(loaded, model)
    assert [name for name, _ in loaded.named_parameters()] == [
        name for name, _ in sorted(model.named_parameters(), key=lambda p: (int(p[0].split(".")[0]), p[0]))
    ]
    assert {name for name, _ in loaded.named_buffers()} == {name for name, _ in model.named_buffers()}
    with pytest.raises(SpringtideError, match="holds no code"):
        loaded(torch.zeros(1))


def test_a_model_is_filled_in_place(tmp_path: Path) -> None:
    model, other = a_net(0), a_net(1)
    weight = other[2].weight
    assert load(save(tmp_path, model), into=other) is other and other[2].weight is weight
    expect_equal(other, model)


def test_each_tensor_has_memory_of_its_own_that_outlives_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, a_net())
    loaded = load(path)
    Path(path, "state.safetensors").unlink()
    for value in loaded.state_dict().values():
        assert value.untyped_storage().nbytes() == value.nbytes
        value.zero_()


@pytest.mark.parametrize("skip", [(), ("out.weight",)])
def test_tied_parameters_stay_tied(tmp_path: Path, skip: tuple[str, ...]) -> None:
    model = Tied()
    path = save(tmp_path, model, skip=skip, tied={"model.out.weight": "model.embed.weight"})
    loaded = load(path)
    expect_equal(loaded, model)
    assert loaded.out.weight is loaded.embed.weight and len(list(loaded.parameters())) == 1
    filled = load(path, into=Tied())
    assert filled.out.weight is filled.embed.weight
    expect_equal(filled, model)


def test_the_config_says_which_tensors_are_buffers(tmp_path: Path) -> None:
    model = nn.Module()
    model.register_buffer("scale", torch.ones(3))
    assert [name for name, _ in load(save(tmp_path, model, buffers=["scale"])).named_buffers()] == ["scale"]


def test_another_model_is_refused_with_what_differs_and_left_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path, nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    other = nn.Sequential(nn.Linear(4, 5), nn.Linear(3, 2, bias=False, dtype=torch.float64), nn.PReLU())
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(UserError) as raised:
        load(path, into=other)
    assert str(raised.value) == (
        f"{path} is of another model: 0.weight is float32[3, 4], the model has float32[5, 4]; "
        "0.bias is float32[3], the model has float32[5]; 1.weight is float32[2, 3], the model has float64[2, 3]; "
        "2.weight float32[1] is missing; 1.bias float32[2] is not in the model"
    )
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_folder_of_checkpoints_a_runs_folder_and_a_url_give_the_newest(tmp_path: Path) -> None:
    old, new = a_net(0), a_net(1)
    for root in (str(tmp_path / "run" / "checkpoints"), f"memory:/{tmp_path}/run/checkpoints"):
        save(root, old, 1)
        newest = save(root, new, 2)
        for path in (newest, root, root.removesuffix("/checkpoints")):
            expect_equal(load(path), new)
    expect_equal(load(tmp_path / "run"), new)
    fsspec.filesystem("memory").rm(str(tmp_path), recursive=True)


def test_a_damaged_newest_is_named_in_a_warning_and_the_one_before_is_used(tmp_path: Path) -> None:
    old = a_net(0)
    save(tmp_path, old, 1)
    newest = Path(save(tmp_path, a_net(1), 2), "state.safetensors")
    content = bytearray(newest.read_bytes())
    content[-3] ^= 4
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{newest} was changed after it was written.*the one before it is used"):
        expect_equal(load(tmp_path), old)
    with pytest.raises(SpringtideError, match=r"no checkpoint in .* is whole: .*state.safetensors was changed"):
        load(newest.parent)


def test_nothing_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.forward", "model.training.x", "model..", "model.a.weight.b"])
def test_a_name_that_no_module_can_have_is_one_sentence(tmp_path: Path, name: str) -> None:
    tensors = [Tensor(n, "F32", (1,), (bytes(4),)) for n in {name, "model.a.weight"}]
    order = Order(fingerprint="f", seed=1, batch_size=8, microbatches=2)
    written = checkpoint.write(tmp_path, tensors, ManifestFields(name="r", run_id="r", step=1, order=order))
    with pytest.raises(SpringtideError, match="cannot be part of a module"):
        load(written.path)


def test_the_library_reads_every_type_as_torch_does(tmp_path: Path) -> None:
    model = nn.Module()
    for name, dtype in _DTYPES.items():
        model.register_buffer(name, torch.arange(5).remainder(2).to(dtype))
    path = save(tmp_path, model)
    expect_equal(load(path), model)
    read = safetensors.torch.load_file(f"{path}/state.safetensors")
    assert all(torch.equal(read[f"model.{name}"], value) for name, value in model.state_dict().items())


def test_the_blocks_of_the_page_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == page.count("```python")
    for code, output in blocks:
        shown = io.StringIO()
        with redirect_stdout(shown):
            exec(compile(code, "checkpoints.md", "exec"), space)
        assert shown.getvalue() == output
