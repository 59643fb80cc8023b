"""One frame of `tide top`: what the pool says goes in, lines of styled text that fit the terminal come out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from springtide.cli.amounts_text import amount, amount_text
from springtide.cli.ps import step_text
from springtide.cli.table import cut, width
from springtide.spec.quantities import duration_text
from springtide.train.events import plural

Row = dict[str, Any]
KINDS = ("service", "stream", "batch", "training")
_MARKS = {  # kind -> in Unicode, in ASCII, style
    "service": ("█", "#", "green"),
    "stream": ("▓", "=", "blue"),
    "batch": ("▒", "+", "yellow"),
    "training": ("░", "~", "cyan"),
    "free": ("·", ".", "dim"),
}
_STATES = {"running": "green", "waiting": "yellow", "paused": "magenta", "failed": "red", "cancelled": "red"}
_NARROWEST = 40
_WIDEST_BAR = 60


@dataclass(frozen=True, slots=True)
class View:
    """What one look at the pool found. `needs` is by job name, what one replica of it holds."""

    health: Row
    nodes: Sequence[Row]
    jobs: Sequence[Row]  # unfinished
    needs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps_per_s: Mapping[str, float] = field(default_factory=dict)  # by job id
    now_s: float = 0.0
    problem: str = ""  # why this is an older look
    hint: str = ""  # what can be done


def frame(view: View, columns: int, rows: int, unicode: bool = True) -> list[Text]:
    """At most `rows` lines, none wider than `columns`: nodes, jobs and queue, each as far as there is room."""
    waiting = [row for row in view.jobs if not row["replicas"]]
    running = [row for row in view.jobs if row["replicas"]]
    head = [_title(view, running, waiting), _legend(unicode)]
    room = max(0, rows - len(head))
    nodes, jobs, queue = _rooms(room, len(_with_devices(view.nodes)), len(running), len(waiting))
    lines = [*head, *_nodes(view, columns, nodes, unicode)]
    lines += _table("jobs", _running(view, running), jobs)
    lines += _table("queue", _waiting(waiting), queue)
    return [_fit(line, columns) for line in lines[:rows]]


def _rooms(room: int, nodes: int, running: int, waiting: int) -> tuple[int, int, int]:
    """Lines for nodes, jobs and queue: each gets what it needs, and a fair part where that is too much."""
    needs = [nodes, running + 2 if running else 0, waiting + 2 if waiting else 0]
    given = [0, 0, 0]
    left = room
    for at in sorted(range(3), key=needs.__getitem__):
        others = sum(1 for other in range(3) if needs[other] and not given[other])
        given[at] = min(needs[at], left // max(1, others))
        left -= given[at]
    return given[0], given[1], given[2]


def _title(view: View, running: Sequence[Row], waiting: Sequence[Row]) -> Text:
    up = duration_text(max(0.0, view.now_s - float(view.health.get("since_s", view.now_s))))
    text = Text(f"springtide {view.health.get('version', '')}", style="bold")
    text.append(
        f"  up {up}, {len(view.nodes)} nodes, {plural(len(running), 'job')} with replicas, {len(waiting)} without",
        "default not bold",
    )
    return text.append(f"  {view.problem}", "red") if view.problem else text.append(f"  {view.hint}", "dim not bold")


def _legend(unicode: bool) -> Text:
    text = Text()
    for kind, (mark, plain, style) in _MARKS.items():
        text.append(f"{mark if unicode else plain}{mark if unicode else plain} ", style).append(f"{kind}  ", "default")
    return text


def _with_devices(nodes: Sequence[Row]) -> list[tuple[Row, str]]:
    """Each node's cores, and its GPUs where it has some."""
    return [
        (node, name)
        for node in nodes
        for name in ("cpu", "gpu")
        if name == "cpu" or (node.get("resources") or {}).get("gpu")
    ]


def _nodes(view: View, columns: int, rows: int, unicode: bool) -> list[Text]:
    bars = _with_devices(view.nodes)
    shown = bars if len(bars) <= rows else bars[: max(0, rows - 1)]
    name_width = max((width(node["name"]) for node, _ in shown), default=0)
    labels = [_held(node, name) for node, name in shown]
    label_width = max((width(label) for label in labels), default=0)
    room = max(4, min(_WIDEST_BAR, columns - name_width - label_width - 6))
    lines = []
    for (node, name), label in zip(shown, labels, strict=True):
        line = Text(f"{node['name']:<{name_width}} ", "bold" if name == "cpu" else "dim")
        line.append_text(_bar(view, node, name, room, unicode)).append(f" {label}", "default not bold")
        lines.append(line.append(" drained", "magenta") if node.get("drained") else line)
    if len(bars) > len(shown) and rows:
        rest = {node["name"] for node, _ in bars[len(shown) :]}
        lines.append(Text(f"and {len(rest)} more nodes", "dim"))
    return lines


def _held(node: Row, name: str) -> str:
    has, held = (node.get("resources") or {}).get(name), (node.get("held") or {}).get(name, 0)
    noun = "cores" if name == "cpu" else "GPUs"
    return (
        f"{amount_text(name, held)} of {amount_text(name, has)} {noun}" if has else f"{amount_text(name, held)} {noun}"
    )


def _bar(view: View, node: Row, name: str, room: int, unicode: bool) -> Text:
    has = amount(name, (node.get("resources") or {}).get(name, 0)) or amount(
        name, (node.get("held") or {}).get(name, 0)
    )
    held = dict.fromkeys(KINDS, 0.0)
    for replica in node.get("replicas") or []:
        held[replica["kind"]] += amount(name, view.needs.get(replica["job"], {}).get(name, 0))
    line, used = Text(), 0
    total = 0.0
    for kind in KINDS:
        total += held[kind]
        cells = (round(room * min(1.0, total / has)) if has else 0) - used
        mark, plain, style = _MARKS[kind]
        line.append((mark if unicode else plain) * cells, style)
        used += cells
    mark, plain, style = _MARKS["free"]
    return line.append((mark if unicode else plain) * (room - used), style)


def _running(view: View, jobs: Sequence[Row]) -> list[tuple[Text, ...]]:
    headers = ("name", "kind", "team", "class", "replicas", "step", "speed", "state")
    cells = [tuple(Text(word, "dim") for word in headers)]
    for row in jobs:
        speed = view.steps_per_s.get(row["id"])
        cells.append(
            (
                Text(row["name"], "bold"),
                Text(row["kind"], _MARKS[row["kind"]][2]),
                Text(row["team"]),
                Text(row["priority"]),
                Text(f"{row['replicas']} of {row['wanted']}"),
                Text(step_text(row)),
                Text("-" if speed is None else f"{speed:,.1f}/s"),
                Text(row["state"], _STATES.get(row["state"], "default")),
            )
        )
    return cells


def _waiting(jobs: Sequence[Row]) -> list[tuple[Text, ...]]:
    cells = [tuple(Text(word, "dim") for word in ("name", "class", "wants", "state", "reason"))]
    for row in jobs:
        state = Text(row["state"], _STATES.get(row["state"], "default"))
        reason = Text(row.get("reason") or "")
        cells.append((Text(row["name"], "bold"), Text(row["priority"]), Text(str(row["wanted"])), state, reason))
    return cells


def _table(title: str, cells: Sequence[tuple[Text, ...]], rows: int) -> list[Text]:
    """An empty line, the headers and as many rows as fit; the last line counts those that do not."""
    if rows < 3 or len(cells) < 2:
        return []
    room = rows - 2
    shown = cells[1:] if len(cells) - 1 <= room else cells[1:room]
    widths = [max(width(row[at].plain) for row in (cells[0], *shown)) for at in range(len(cells[0]))]
    lines = [Text()]
    for row in (cells[0], *shown):
        line = Text()
        for at, cell in enumerate(row):
            line.append_text(cell)
            line.append(" " * (widths[at] - width(cell.plain) + 2) if at + 1 < len(row) else "")
        lines.append(line)
    if len(shown) < len(cells) - 1:
        lines.append(Text(f"and {len(cells) - 1 - len(shown)} more in the {title}", "dim"))
    return lines


def _fit(line: Text, columns: int) -> Text:
    """The line, cut to the terminal; styles stay where they were."""
    plain = cut(line.plain, max(1, columns))
    if plain == line.plain:
        return line
    kept = line[: max(0, len(plain) - 1)]
    return kept.append("…")
