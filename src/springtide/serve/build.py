"""A version's module: its own copy of the code is imported, its function called, its weights loaded, strictly."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide.serve import isolation
from springtide.serve.registry import folder as folders
from springtide.serve.registry.folder import CODE, WEIGHTS, Recipe
from springtide.serve.registry.version import Version
from springtide.spec.errors import SpringtideError
from springtide.spec.quantities import nearest

if TYPE_CHECKING:
    import torch

_MOST_SAID = 4


def build_module(version: Version) -> torch.nn.Module:
    """The module of a version, ready to answer (eval mode, on the CPU); every byte of it is verified before.

    SpringtideError: code or weights changed since it was registered, the build fails, or its weights do not fit.
    """
    what = f"version {version.number} of {version.name}"
    return module_in(version.path, folders.verified(version.path, version.digest, what), what)


def module_in(folder: Path, recipe: Recipe, what: str) -> torch.nn.Module:
    """The module that a recipe builds in its folder. Random numbers that the build draws are the same each time."""
    import torch

    with same_numbers():
        module = _built(folder, recipe, what)
    if not isinstance(module, torch.nn.Module):
        raise SpringtideError(f"{what}: {recipe.build} returned {type(module).__name__}; return a torch.nn.Module")
    _load(module, folder / WEIGHTS, what)
    return module.eval()


@contextmanager
def same_numbers() -> Iterator[None]:
    """Whoever draws random numbers within draws the same each time, and none of the caller's."""
    from springtide.train import randomness

    saved = randomness.states()
    try:
        randomness.seed_all(0)
        yield
    finally:
        randomness.restore(saved)


def inputs_of(module: torch.nn.Module) -> tuple[str, ...]:
    """The names of what its forward takes; a variable number of them has no names."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(name for name, one in inspect.signature(module.forward).parameters.items() if one.kind not in kinds)


def _built(folder: Path, recipe: Recipe, what: str) -> Any:
    try:
        module = isolation.imported(folder / CODE, recipe.code_digest, recipe.module)
        function = getattr(module, recipe.function, None)
        if not callable(function):
            known = [name for name, value in vars(module).items() if callable(value)]
            hint = nearest(recipe.function, known) or "; define it there"
            raise SpringtideError(f"{what}: the module {recipe.module} has no function {recipe.function}{hint}")
        _check_config(function, recipe, what)
        return function(**recipe.config)
    except SpringtideError:
        raise
    except (Exception, SystemExit) as error:
        raise SpringtideError(f"{what} cannot be built by {recipe.build}: {place_of(error, folder)}") from error


def _check_config(function: Any, recipe: Recipe, what: str) -> None:
    try:
        inspect.signature(function).bind(**recipe.config)
    except TypeError as error:
        said = ", ".join(f"{name}={value!r}" for name, value in recipe.config.items()) or "nothing"
        raise SpringtideError(f"{what}: {recipe.build} does not take the config given ({said}): {error}") from None
    except ValueError:  # a function that does not tell what it takes
        return


def place_of(error: BaseException, folder: Path) -> str:
    """What went wrong, and in which line of the version's own code."""
    import traceback

    said = f"{type(error).__name__}: {error}".rstrip(": ").replace("\n", " ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(folder / CODE):
            return f"{Path(frame.filename).relative_to(folder / CODE)}:{frame.lineno}: {said}"
    return said


def _load(module: torch.nn.Module, path: Path, what: str) -> None:
    from safetensors.torch import load_file

    stored, wanted = load_file(path), module.state_dict(keep_vars=True)
    shared: dict[int, list[str]] = {}
    for name, value in wanted.items():
        shared.setdefault(id(value), []).append(name)
    for names in shared.values():  # tied tensors need to be there under one of their names only
        if there := next((name for name in names if name in stored), None):
            stored |= {name: stored[there] for name in names if name not in stored}
    missing = [f"{name} {_text(value)} is missing" for name, value in wanted.items() if name not in stored]
    extra = [f"{name} {_text(value)} is not in the module" for name, value in stored.items() if name not in wanted]
    other = [
        f"{name} is {_text(stored[name])}, the module has {_text(value)}"
        for name, value in wanted.items()
        if name in stored and _text(value) != _text(stored[name])
    ]
    if differences := [*other, *missing, *extra]:
        more = f"; and {len(differences) - _MOST_SAID} more" if len(differences) > _MOST_SAID else ""
        raise SpringtideError(
            f"{what}: its weights do not fit what is built: {'; '.join(differences[:_MOST_SAID])}{more}"
        )
    module.load_state_dict(stored)


def _text(value: Any) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
