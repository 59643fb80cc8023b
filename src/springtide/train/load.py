"""The name under which `springtide.train` asks for `load`; see `plain`."""

from springtide.train.plain import load

__all__ = ["load"]
