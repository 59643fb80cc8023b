"""`tide stream`: endless data, in the embedded log or in Kafka: what there is, its latest records, and adding some."""

from __future__ import annotations

import base64
import io
import itertools
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from springtide.cli import asking, table
from springtide.cli.words import Words, as_json
from springtide.spec import quantities
from springtide.spec.errors import UserError
from springtide.spec.home import home

if TYPE_CHECKING:
    from springtide.data.streams import Record, Stream

_BATCH = 1000
_FOLLOWS_S = 3600.0
_NUMBERS = frozenset(("partitions", "partition", "first", "end", "records", "size", "position", "behind"))


class _Streams(Words):
    """With no further word it does `ls`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["ls"])


@click.group(cls=_Streams, epilog="Example: tide stream append log:///srv/requests records.jsonl")
def stream() -> None:
    """List streams, print their records, add some, and say how full they are.

    URL is log:///absolute/path (kept on this machine) or kafka://host:9092/topic.
    """


@stream.command("ls", epilog="Example: tide stream ls log:///srv")
@click.argument("where", metavar="[URL]", required=False)
@as_json
def list_streams(where: str | None, as_json: bool) -> None:
    """List logs below a folder, or topics of a broker.

    Without URL, the logs of this home: those below its folder `streams`.
    """
    from springtide.data.streams import listing

    found = listing.streams(where or f"log://{home() / 'streams'}")
    if as_json:
        asking.say_json(found)
    elif not found:
        click.echo(f"no streams below {where or home() / 'streams'}")
    else:
        rows = [[one["url"], f"{one['partitions']}", f"{one['records']:,}", _state(one["sealed"])] for one in found]
        table.show(("url", "partitions", "records", "state"), rows, _NUMBERS)


@stream.command(epilog="Example: tide stream tail -f log:///srv/requests")
@click.argument("url", metavar="URL")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, to the end of a sealed stream.")
@click.option("-n", "--lines", metavar="N", default=10, show_default=True, help="How many of the latest.")
@click.option("--partition", metavar="P", type=int, help="Only of this one.")
@click.option("--offset", metavar="O", type=int, help="From this record on; with --partition.")
@as_json
def tail(url: str, follow: bool, lines: int, partition: int | None, offset: int | None, as_json: bool) -> None:
    """Print the latest records, the newest last.

    With --json also where each one stands, and when it came.
    """
    from springtide.data.streams import open_stream

    if offset is not None and partition is None:
        raise UserError("--offset counts the records of one partition; add --partition 0")
    opened = open_stream(url)
    try:
        for record in _tail(opened, follow, lines, partition, offset):
            click.echo(json.dumps(_told(record)) if as_json else record.value.decode(errors="replace"))
            if follow:
                sys.stdout.flush()
    finally:
        opened.close()


@stream.command(epilog="Examples: tide stream append log:///srv/requests more.jsonl; ... | tide stream append URL -")
@click.argument("url", metavar="URL")
@click.argument("file", metavar="FILE")
@click.option("--partitions", metavar="N", default=1, show_default=True, help="Of a new stream; an old one may grow.")
@click.option("--sync", metavar="WHEN", default="10ms", show_default=True, help="Of a new log: each, a time, or os.")
@click.option("--key", metavar="FIELD", help="Records of one value of this field go to one partition.")
@click.option("--raw", is_flag=True, help="Take lines as they are, not as JSON objects.")
@as_json
def append(
    url: str, file: str, partitions: int, sync: str, key: str | None, raw: bool, as_json: bool
) -> None:  # fmt: skip
    """Add each line of FILE as a record.

    Lines are JSON objects; - reads the input. The stream is made if there is none.
    """
    from springtide.data.streams import open_stream

    if file != "-":
        with _opened(file) as lines:  # all is read before anything is added, so a bad line adds nothing
            for _ in _records(lines, file, key, raw):
                pass
    target = open_stream(url, create=True, partitions=partitions, sync=sync)
    count = 0
    try:
        with _opened(file) as lines:
            for values, to in _batches(_records(lines, file, key, raw), len(target.bounds())):
                count += len(target.append(values, partition=to))
    finally:
        target.close()
    if as_json:
        asking.say_json({"url": url, "appended": count})
    else:
        click.echo(f"{count:,} record{'s' if count != 1 else ''} appended to {url}")


@stream.command(epilog="Example: tide stream stat log:///srv/requests")
@click.argument("url", metavar="URL")
@as_json
def stat(url: str, as_json: bool) -> None:
    """Say what each partition holds.

    Also how far behind those are that process another stream into this one.
    """
    from springtide.data.streams import listing

    told = listing.stat(url)
    if as_json:
        asking.say_json(told)
        return
    rows = [
        [
            f"{one['partition']}", f"{one['first']:,}", f"{one['end']:,}", f"{one['end'] - one['first']:,}",
            "-" if one["bytes"] is None else quantities.bytes_text(one["bytes"]), _state(one["sealed"]),
        ]
        for one in told["partitions"]
    ]  # fmt: skip
    table.show(("partition", "first", "end", "records", "size", "state"), rows, _NUMBERS)
    if told["processors"]:
        click.echo()
        rows = [
            [one["name"], one["source"], f"{one['position']:,}", "?" if one["lag"] is None else f"{one['lag']:,}"]
            for one in told["processors"]
        ]
        table.show(("processor", "source", "position", "behind"), rows, _NUMBERS)


@stream.command(epilog="Example: tide stream seal log:///srv/requests")
@click.argument("url", metavar="URL")
@as_json
def seal(url: str, as_json: bool) -> None:
    """Say that nothing more will come, for good.

    Who reads to the end is done then.
    """
    from springtide.data.streams import open_stream

    opened = open_stream(url)
    try:
        opened.seal()
        end = sum(bounds.end for bounds in opened.bounds().values())
    finally:
        opened.close()
    if as_json:
        asking.say_json({"url": url, "sealed": True})
    else:
        click.echo(f"{url} is sealed behind {end:,} records")


def _state(sealed: bool) -> str:
    return "sealed" if sealed else "open"


def _tail(
    opened: Stream, follow: bool, count: int, partition: int | None, offset: int | None
) -> Iterator[Record]:  # fmt: skip
    """The latest records in the order of their times; then those that come."""
    bounds = {at: one for at, one in opened.bounds().items() if partition in (None, at)}
    if not bounds:
        raise UserError(f"{opened.url} has no partition {partition}: there are {len(opened.bounds())}, counted from 0")
    places = {at: max(one.first, one.end - count) if offset is None else offset for at, one in bounds.items()}
    latest: list[Record] = []
    for at, one in bounds.items():
        while places[at] < one.end and (found := opened.read(at, places[at])):
            latest += found
            places[at] = found[-1].offset + 1
    latest.sort(key=lambda record: record.time_s)
    yield from latest if offset is not None else latest[-count:] if count > 0 else ()
    while follow:
        bounds = {at: one for at, one in opened.bounds().items() if partition in (None, at)}
        for at, one in bounds.items():
            while places.setdefault(at, one.first) < one.end and (found := opened.read(at, places[at])):
                yield from found
                places[at] = found[-1].offset + 1
        if all(one.sealed and places[at] >= one.end for at, one in bounds.items()):
            return
        rest = {at: one.end for at, one in opened.bounds().items() if at not in places}
        opened.wait(places | rest, _FOLLOWS_S)


def _told(record: Record) -> dict[str, Any]:
    try:
        value = {"value": json.loads(record.value)}
    except ValueError:
        value = {"base64": base64.b64encode(record.value).decode()}
    time = datetime.fromtimestamp(record.time_s).astimezone().isoformat()
    return {"partition": record.partition, "offset": record.offset, "time": time, **value}


def _opened(file: str) -> TextIO:
    if file == "-":
        return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
    try:
        return Path(file).open(encoding="utf-8")
    except OSError as error:
        raise UserError(f"FILE: {file} cannot be read ({error.strerror})") from None


def _records(lines: TextIO, file: str, key: str | None, raw: bool) -> Iterator[tuple[bytes, bytes | None]]:
    """Value and key of each line that is not empty. Raises UserError with the number of a bad one."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            text = line.rstrip("\n")
            if text.strip():
                yield text.encode(), None if raw and key is None else _key(text, key, f"{file}:{number}")
    except UnicodeDecodeError:
        raise UserError(
            f"{file}:{number + 1}: this is no text in UTF-8; records are JSON objects, one a line"
        ) from None


def _key(text: str, field: str | None, where: str) -> bytes | None:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise UserError(f'{where}: {error}; write one JSON object a line, for example {{"id": 1}}') from None
    if not isinstance(told, dict):
        raise UserError(f'{where}: a record is a JSON object, and this is none; write for example {{"id": 1}}')
    if field is None:
        return None
    if field not in told:
        raise UserError(f'{where}: the record has no field "{field}", which --key names')
    return str(told[field]).encode()


def _batches(
    records: Iterator[tuple[bytes, bytes | None]], partitions: int
) -> Iterator[tuple[list[bytes], int | None]]:  # fmt: skip
    """Records that may be appended together, and the partition of their keys; None: they have no key."""
    from springtide.data.streams.stream import partition_of

    while batch := list(itertools.islice(records, _BATCH)):
        groups: dict[int | None, list[bytes]] = {}
        for value, key in batch:
            groups.setdefault(None if key is None else partition_of(key, partitions), []).append(value)
        yield from ((values, to) for to, values in groups.items())
