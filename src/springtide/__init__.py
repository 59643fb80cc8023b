"""Springtide runs deep learning on the machines that a company already shares.

`springtide.train` holds what a training script needs, `springtide.data` what feeds it; `tide` is the command. Nothing
is imported here, so that `tide --help` answers at once; begin reading at docs/architecture.md.
"""

__version__ = "0.1.0"
