"""The code of a version under a name of its own, so that two versions of one module live in one process.

Modules below a version's code/ are imported as `springtide_model_DIGEST.NAME`; their imports of one another are
rewritten to those names before they are compiled. Python's own machinery does the rest; no bytecode is kept.
"""

from __future__ import annotations

import ast
import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "springtide_model_"
_lock = threading.Lock()


def imported(code: Path, digest: str, module: str) -> ModuleType:
    """The module of that name from a version's code. What it raises while it is imported goes to the caller."""
    root = f"{_PREFIX}{digest}"
    with _lock:
        if not any(isinstance(one, _Finder) for one in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        if root not in sys.modules:
            package = ModuleType(root)
            package.__path__ = [str(code)]
            sys.modules[root] = package
    return importlib.import_module(f"{root}.{module}")


class _Finder:
    """Finds what lies below a version's package, where Python finds it, and has it compiled by `_Loader`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if not name.startswith(_PREFIX) or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.origin)
            spec.cached = None
        return spec


class _Loader(SourceFileLoader):
    """Compiles a module with its imports of the version's own modules rewritten; leaves no bytecode behind."""

    def get_code(self, fullname: str) -> CodeType:
        root = fullname.partition(".")[0]
        tree = ast.parse(self.get_data(self.path), self.path)
        own = {path.stem for place in sys.modules[root].__path__ for path in Path(place).iterdir()}
        renamed = ast.fix_missing_locations(_Renamed(root, own).visit(tree))
        code: CodeType = compile(renamed, self.path, "exec", dont_inherit=True)
        return code


class _Renamed(ast.NodeTransformer):
    """`import a.b` and `from a import c` of one's own modules, below the version's package."""

    def __init__(self, root: str, own: set[str]) -> None:
        self._root, self._own = root, own

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        if node.level or node.module is None or node.module.partition(".")[0] not in self._own:
            return node
        return ast.copy_location(ast.ImportFrom(f"{self._root}.{node.module}", node.names, 0), node)

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [ast.copy_location(one, node) for alias in node.names for one in self._import(alias)]

    def _import(self, alias: ast.alias) -> list[ast.stmt]:
        top, dot, _ = alias.name.partition(".")
        if top not in self._own:
            return [ast.Import([alias])]
        if alias.asname:
            # `import a.b as c` binds the submodule itself, as `from a import b as c` does.
            package, _, leaf = f"{self._root}.{alias.name}".rpartition(".")
            return [ast.ImportFrom(package, [ast.alias(leaf, alias.asname)], 0)]
        bound: ast.stmt = ast.ImportFrom(self._root, [ast.alias(top)], 0)
        if not dot:
            return [bound]
        # Loaded by a statement that binds nothing but a name which the next one binds again.
        package, _, leaf = f"{self._root}.{alias.name}".rpartition(".")
        return [ast.ImportFrom(package, [ast.alias(leaf, top)], 0), bound]
