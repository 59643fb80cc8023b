"""The command line that the training scripts of all systems share."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", default="mlp", help="a name of benchmarks.works")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path, help="a file: loaded at the start if it is there, then saved")
    parser.add_argument("--every", type=int, default=0, help="save every so many steps (0: never)")
    parser.add_argument(
        "--loading", choices=["index", "loader"], default="index", help="how a plain loop reads its batches"
    )
    parser.add_argument("--microbatches", type=int)
    parser.add_argument("--fused", action="store_true", help="exact=False")
    return parser.parse_args()
