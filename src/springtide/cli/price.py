"""`tide price` and `tide bid`: what spot jobs pay, and what they offer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from springtide.cli import asking, finding
from springtide.cli.completion import unfinished_names
from springtide.cli.look import time_text
from springtide.cli.words import as_json
from springtide.spec import amounts, quantities
from springtide.spec.errors import UserError

_LEVELS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60


@click.command(epilog="Example: tide price --since 24h")
@click.option("--since", metavar="TIME", default="24h", show_default=True, help="How far back the chart goes: 1h, 7d.")
@as_json
def price(since: str, as_json: bool) -> None:
    """Print what a core and a GPU cost a spot job per hour, now and of late."""
    now_s = time.time()
    since_s = now_s - quantities.duration(since, "--since")
    prices = asking.pool().prices(since_s=since_s)
    if as_json:
        asking.say_json(prices)
    else:
        click.echo("\n".join(_told(prices, since_s, now_s)))


@click.command(epilog="Examples: tide bid sweep 0.05; tide bid --would 0.05 --cpu 4 --span 24h")
@click.argument("words", metavar="[JOB CORE [GPU]]", nargs=-1, shell_complete=unfinished_names)
@click.option("--would", metavar="CORE", help="Change nothing: what would this price per core-hour have bought?")
@click.option("--would-gpu", metavar="GPU", help="The same per GPU-hour.")
@click.option("--cpu", metavar="CORES", default="1", show_default=True, help="With --would: cores of a replica.")
@click.option("--gpu", metavar="N", default="0", show_default=True, help="With --would: GPUs of a replica.")
@click.option("--span", metavar="TIME", default="24h", show_default=True, help="With --would: how far back.")
@as_json
def bid(words: tuple[str, ...], as_json: bool, would: str | None, would_gpu: str | None, **said: str) -> None:
    """Let the spot job JOB pay at most CORE per core-hour (and GPU per GPU-hour)."""
    if would is not None or would_gpu is not None:
        if words:
            raise UserError(f"--would changes no job, and {words[0]} is one; leave out one of the two")
        answer = _would(would or "0", would_gpu or "0", **said)
        said_so = answer["sentence"]
    else:
        answer, said_so = _bid(words)
    if as_json:
        asking.say_json(answer)
    else:
        click.echo(said_so)


def _bid(words: Sequence[str]) -> tuple[dict[str, Any], str]:
    if len(words) not in (2, 3):
        raise UserError(
            "JOB and CORE are wanted; write tide bid JOB 0.05, or tide bid JOB 0.05 1.5 with a price per GPU-hour"
        )
    name, *money = words
    offers = {
        key: amounts.number(text, where, "0.05")
        for key, where, text in zip(("per_core_hour", "per_gpu_hour"), ("CORE", "GPU"), money, strict=False)
    }
    client = asking.pool()
    target = finding.find(name, client, local=False)
    answer = client.update(target.key, bid=offers)
    gpu = f" and {offers['per_gpu_hour']:g} per GPU-hour" if "per_gpu_hour" in offers else ""
    return answer, f"{target.name}: pays at most {offers['per_core_hour']:g} per core-hour{gpu}"


def _would(core: str, gpu_price: str, cpu: str, gpu: str, span: str) -> dict[str, Any]:
    asked = {
        "per_core_hour": amounts.number(core, "--would", "0.05"),
        "per_gpu_hour": amounts.number(gpu_price, "--would-gpu", "1.5"),
        "cpu": amounts.cores(cpu, "--cpu"),
        "gpu": amounts.gpus(gpu, "--gpu"),
        "span_s": quantities.duration(span, "--span"),
    }
    return asking.pool().would_buy(**asked)


def _told(prices: dict[str, Any], since_s: float, now_s: float) -> list[str]:
    lines = []
    for key, noun in (("core", "core-hour"), ("gpu", "GPU-hour")):
        floor = prices.get(f"floor_{key}") or 0.0
        lines.append(f"{noun:<10}{prices[key]:g} now, {floor:g} at least")
        steps = [(one["since_s"], one[key]) for one in prices["history"]]
        if len({price for _, price in steps}) > 1:
            values = sampled(steps, since_s, now_s, _COLUMNS)
            lines.append(f"{'':<10}{chart(values)}  {min(values):g} to {max(values):g}")
    lines.append(f"{'':<10}{time_text(since_s, now_s)} to {time_text(now_s, now_s)}")
    return lines


def sampled(steps: Sequence[tuple[float, float]], since_s: float, until_s: float, columns: int) -> list[float]:
    """The highest price in each of so many equal spans; `steps` are (from when, price), in order."""
    values = []
    for column in range(columns):
        begin, end = (since_s + (until_s - since_s) * at / columns for at in (column, column + 1))
        before = [price for at, price in steps if at <= begin][-1:]
        values.append(max([*before, *(price for at, price in steps if begin < at < end)], default=0.0))
    return values


def chart(values: Sequence[float]) -> str:
    """One line of bars, from the lowest to the highest value."""
    low, high = min(values), max(values)
    scale = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    return "".join(_LEVELS[round((value - low) * scale)] for value in values)
