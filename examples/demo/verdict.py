"""What is said at the end: what each blow cost, the shares, and whether all that was promised holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from demo.day import STORY, clock
from demo.dedicated import Shares
from demo.recording import Blow, Recording


@dataclass(frozen=True)
class Line:
    """One promise: what was found, and whether it holds."""

    promise: str
    found: str
    holds: bool


def lines(day: Recording, calm: Mapping[str, Any], shares: Shares, dedicated: Shares, left: int) -> list[Line]:
    """`calm` is the report of the undisturbed run; `left` is how many processes were left behind."""
    result = day.jobs.get("digits", {}).get("result") or {}
    digest, other = result.get("digest"), calm.get("digest")
    step, wanted = day.commits[-1].step if day.commits else 0, day.wanted_steps
    ends = {name: day.jobs.get(name, {}).get("state", "missing") for name in ("digits", "report", "sweep")}
    server = [blow for blow in day.blows if blow.what == "kill_server"]
    same = bool(server) and all(blow.same for blow in server)
    struck = [blow.what for blow in day.blows if blow.pids or not blow.what.startswith("kill")]
    meant = [one.what for one in STORY]
    twice = f", {day.asked_twice} asked twice" if day.asked_twice else ""
    failed = f"{day.failed} of {len(day.requests):,}{twice}"
    return [
        Line("no request failed", failed, not day.failed and bool(day.requests)),
        Line("no step was lost", f"{day.steps_lost} of {step:,}", not day.steps_lost and step == wanted),
        Line("no sample was lost", f"{result.get('samples_lost')}", result.get("samples_lost") == 0),
        Line("no sample counted twice", f"{result.get('samples_twice')}", result.get("samples_twice") == 0),
        Line("same bits as undisturbed", f"{short(digest)} and {short(other)}", bool(digest) and digest == other),
        Line("every job is done", _counted(ends), set(ends.values()) == {"done"}),
        Line("the next pool server found the same processes", "yes" if same else "no", same),
        Line(
            "more is used than on dedicated machines", f"{shares.used:.1%} and {dedicated.used:.1%}",
            shares.used > dedicated.used,
        ),
        Line("all that was meant to happen did", f"{len(struck)} of {len(STORY)}", struck == meant),
        Line("nothing is left behind", f"{left} processes", left == 0),
    ]  # fmt: skip


def _counted(ends: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {state}" for name, state in ends.items())


def short(digest: object) -> str:
    return str(digest).removeprefix("blake2b:")[:12]


def verdict(found: list[Line]) -> Table:
    table = _table("Verdict")
    table.add_column("")
    table.add_column("")
    table.add_column("")
    for line in found:
        table.add_row(
            line.promise, line.found, Text("yes", style="green") if line.holds else Text("no", style="bold red")
        )
    return table


def happenings(day: Recording) -> Table:
    """What happened, in the order of time, and what it cost."""
    table = _table("What happened")
    table.add_column("time")
    table.add_column("what", ratio=2)
    table.add_column("and then", ratio=3)
    rows = [(blow.at_s, blow.words, cost(day, blow)) for blow in day.blows]
    rows += [
        (at_s, f"the service's load rises: {replicas} replicas", _rise(day, at_s)) for at_s, replicas in day.rises()
    ]
    for at_s, what, then in sorted(rows):
        table.add_row(clock(day.hour(at_s)), what, then)
    return table


def cost(day: Recording, blow: Blow) -> str:
    """What a blow cost, as measured."""
    match blow.what:
        case "kill_worker" | "kill_workers":
            return f"training stood still for {milliseconds(day.standstill_s(blow.at_s))}"
        case "kill_replica":
            wait_s = day.longest_wait_s(blow.at_s - 0.2, blow.at_s + 1.0)
            new = _after(day.first_of_new_s(blow.at_s), blow.at_s)
            return (
                f"next answer after {_after(day.first_answer_s(blow.at_s), blow.at_s)}, longest wait "
                f"{milliseconds(wait_s)}, another replica answers after {new}"
            )
        case "kill_server" if blow.back_s is not None:
            answered = day.answered(blow.at_s, blow.back_s)
            steps = day.steps_between(blow.at_s, blow.back_s)
            return (
                f"back after {blow.back_s - blow.at_s:.1f} s; meanwhile {answered:,} requests answered and {steps:,} "
                f"steps made"
            )
        case _:
            name = blow.what.removeprefix("submit_")
            job = day.jobs.get(name, {})
            if not job.get("started_s"):
                return "it never started"
            more = f", done at {clock(day.hour(job['finished_s']))}" if job.get("finished_s") else ""
            return f"it starts after {milliseconds(job['started_s'] - blow.at_s)}{more}"


def _rise(day: Recording, at_s: float) -> str:
    shrunk = [
        event["job"]
        for event in day.events
        if event["time_s"] == at_s and event["kind"] in ("shrink", "suspend") and event["job"] != "web"
    ]
    gave = f"{' and '.join(shrunk)} gave way in the same tick; " if shrunk else ""
    return f"{gave}the new replica answers after {_after(day.first_of_new_s(at_s), at_s)}"


def _after(moment_s: float | None, at_s: float) -> str:
    return "no answer" if moment_s is None else milliseconds(moment_s - at_s)


def milliseconds(span_s: float) -> str:
    return f"{span_s * 1e3:,.0f} ms"


def comparison(shares: Shares, again: Shares, dedicated: Shares, ran: float) -> Table:
    """`ran`: seconds of cores for which processes of jobs really ran, over all there were."""
    table = _table("The same work, planned by the same planner")
    for name in ("", "cores given", "work done in", "processes ran", "training done"):
        table.add_column(name, justify="right" if name else "left")
    rows = (
        ("this pool, measured", shares, f"{ran:.1%}"),
        ("this pool, simulated", again, ""),
        ("dedicated machines, simulated", dedicated, ""),
    )
    for name, one, running in rows:
        table.add_row(name, f"{one.held:.1%}", f"{one.used:.1%}", running, f"{one.trained:.0%}")
    return table


def _table(title: str) -> Table:
    return Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", show_header=title != "Verdict"
    )
