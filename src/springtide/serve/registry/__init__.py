"""Versions of named models: what each is made of, where it came from, which one serves, and who listens.

Imports `spec` and `train`'s torch-free modules. Begin with `version` (what a version is), then `stages` (which one is
production: pure), then `registry` (the file and the folders). `tide model` and the pool's /v1/models stand on it.
"""

from __future__ import annotations

from springtide.serve.registry.registry import Registry
from springtide.serve.registry.stages import Stage
from springtide.serve.registry.version import Attendant, Change, Lineage, Version

__all__ = ["Attendant", "Change", "Lineage", "Registry", "Stage", "Version"]
