from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def one_script_after_another() -> Iterator[None]:
    """Each test is a script of its own; scripts with a Run are forgotten with their arena."""
    yield
    if "springtide.train.run" in sys.modules:
        import training

        training.forget()
