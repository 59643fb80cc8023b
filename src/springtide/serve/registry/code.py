"""The modules that a model is built by: found from the caller's folder as Python finds them, their imports followed.

Nothing is executed: imports are read from the text. What lies among installed packages is not taken along.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

_NEVER = frozenset(("springtide", "torch"))  # also where somebody works in their own folders
_INSTALLED = ("site-packages", "dist-packages")


def check_build(build: str, where: str = "--build") -> tuple[str, str]:
    """Module and function of `MODULE:FUNCTION`. UserError: it is not of that form."""
    module, colon, function = build.partition(":")
    words = module.split(".")
    if not colon or not all(word.isidentifier() for word in (*words, function)):
        raise UserError(f'{where}: "{build}" names no function; write MODULE:FUNCTION, for example my_model:build')
    return module, function


def collect(build: str, roots: Sequence[Path]) -> dict[str, bytes]:
    """Path below code/ -> content, of the build's module and of all that it imports from `roots`.

    UserError: the module is not there, has no such function, or is no Python.
    """
    module, function = check_build(build)
    own = _Own(roots)
    if own.find(module) is None:
        known = sorted({path.stem for root in own.roots for path in root.glob("*.py")})
        hint = nearest(module, known) or f"; looked in {', '.join(map(str, own.roots))}"
        raise UserError(f"--build: there is no module {module}{hint}")
    found: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        for name in own.parts(waiting.pop()):
            path, root = own.files[name]
            if (short := path.relative_to(root).as_posix()) in found:
                continue
            found[short] = path.read_bytes()
            tree = _parsed(found[short], path)
            if name == module:
                _check_function(tree, function, path)
            waiting += [one for one in _imports(tree, name, path.name == "__init__.py") if own.find(one) is not None]
    return found


def roots_of(folder: Path) -> list[Path]:
    """Where modules of the caller's own are looked for: the folder, then those of PYTHONPATH that hold no packages."""
    named = [Path(text) for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    return [folder.absolute(), *(path.absolute() for path in named if path.is_dir())]


class _Own:
    """The caller's modules by name; `files` grows as they are found."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = [root for root in dict.fromkeys(roots) if not set(_INSTALLED) & set(root.parts)]
        self.files: Mapping[str, tuple[Path, Path]] = {}
        self._files: dict[str, tuple[Path, Path]] = {}
        self.files = self._files

    def find(self, name: str) -> Path | None:
        """The file of a module of one's own; its packages are found with it. None: it is no file of `roots`."""
        if name.partition(".")[0] in _NEVER:
            return None
        if name not in self._files:
            for root in self.roots:
                place = root.joinpath(*name.split("."))
                for path in (place / "__init__.py", place.with_suffix(".py")):
                    if path.is_file() and self._reachable(name, root):
                        self._files[name] = path, root
                        return path
            return None
        return self._files[name][0]

    def parts(self, name: str) -> Iterator[str]:
        """The module, and the packages that it lies in, as far as they have a file."""
        words = name.split(".")
        for count in range(1, len(words) + 1):
            if self.find(".".join(words[:count])) is not None:
                yield ".".join(words[:count])

    def _reachable(self, name: str, root: Path) -> bool:
        """A folder without `__init__.py` is a package only where no installed one has its name."""
        top = name.partition(".")[0]
        if (root / f"{top}.py").is_file() or (root / top / "__init__.py").is_file():
            return True
        spec = PathFinder.find_spec(top)
        return spec is None or spec.loader is None or spec.origin is None


def _imports(tree: ast.Module, name: str, package: bool) -> Iterator[str]:
    """Names that may be modules: what is imported, and what is imported from it."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                words = name.split(".") if node.level else []
                if node.level and (up := node.level - package):
                    words = words[:-up]
                base = ".".join([*words, *([node.module] if node.module else [])])
                if base:
                    yield base
                    yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _parsed(content: bytes, path: Path) -> ast.Module:
    try:
        return ast.parse(content, str(path))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"{path}{line} is no Python: {getattr(error, 'msg', error)}") from None


def _check_function(tree: ast.Module, function: str, path: Path) -> None:
    """UserError: nothing of that name is made at the top of the file, nor might come in by a star."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
    if function not in names and "*" not in names:
        known = sorted(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
        raise UserError(f"--build: {path} has no {function}{nearest(function, known) or f'; it has {_listed(known)}'}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no function"
