"""`tide serve NAME --port 8080`: a model server of this machine, without a pool."""

from __future__ import annotations

import os
import sys

import click

from springtide.spec import home


@click.command(epilog="Example: tide serve digits --port 8080 --requests log:///data/requests")
@click.argument("models", metavar="NAME...", nargs=-1, required=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Where it answers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address of this machine that it listens on.")
@click.option("--requests", metavar="URL", help="Add requests and feedback to this stream. [default: keep none]")
@click.option(
    "--sample", type=click.FloatRange(0, 1), help="The share of requests that is kept, by their ids. [default: 1]"
)
@click.option("--redact", metavar="MODULE:FUNCTION", help="What each record passes before it is kept.")
@click.option("--max-batch", type=click.IntRange(1), help="Rows that are computed together at most. [default: 64]")
@click.option("--max-queue", type=click.IntRange(1), help="Requests to a model that may wait. [default: 512]")
@click.option("--max-body-bytes", type=click.IntRange(1), help="The largest request. [default: 16777216]")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch, for each model. [default: 1]")
def serve(models: tuple[str, ...], **said: object) -> None:
    """Answer with the production version of each NAME until Ctrl-C; promotions are followed without a lost request."""
    from springtide.serve.registry import Registry

    registry = Registry.open(home.models())
    for name in models:
        registry.versions(name)  # or there is no such model
    words = [sys.executable, "-P", "-m", "springtide.serve.server", "--registry", str(home.models())]
    for name in models:
        words += ["--model", name]
    for option, value in said.items():
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    os.execv(words[0], words)
