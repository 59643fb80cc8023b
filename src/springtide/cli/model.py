"""`tide model`: versions of models, which of them serves, and the gate that a new one must pass."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from springtide.cli import asking, canary
from springtide.cli.words import Words, as_json
from springtide.spec.errors import UserError

if TYPE_CHECKING:
    from springtide.serve.registry import Change, Registry

Row = dict[str, Any]


class _Words(Words):
    """`list` is what a command does that is given no word; here it is called `ls`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self.commands if name != "list"]


def _names(_ctx: Any, _parameter: Any, incomplete: str) -> list[str]:
    """Whatever is wrong, somebody who presses Tab is not told about it."""
    try:
        return [name for name in _registry().names() if name.startswith(incomplete)]
    except Exception:
        return []


_name = click.argument("name", metavar="NAME", shell_complete=_names)
_version = click.argument("version", metavar="VERSION")


@click.group(cls=_Words, epilog="Example: tide model promote digits 3 --data held-out.jsonl")
def model() -> None:
    """Keep versions of models: add, look, promote, roll back. VERSION is a number, or production or previous."""


model.add_command(canary.canary)
model.add_command(canary.shadow)


@model.command(epilog="Example: tide model add digits runs/digits --build my_model:build --config width=64")
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="SOURCE")
@click.option("--build", metavar="MODULE:FUNCTION", default="", help="What makes the module; copied with the version.")
@click.option("--config", metavar="KEY=VALUE", multiple=True, help="What FUNCTION is called with; or one JSON object.")
@click.option("--metrics", metavar="KEY=VALUE", multiple=True, help="Numbers to be kept with it; or one JSON object.")
@as_json
def add(name: str, source: str, build: str, config: tuple[str, ...], metrics: tuple[str, ...], as_json: bool) -> None:
    """Register SOURCE as the next version of NAME: a .safetensors file, a checkpoint, a run's folder or its name."""
    from springtide.serve.registry import rows

    if not build:
        raise UserError("--build is missing; write MODULE:FUNCTION, the function that makes the module")
    numbers = {key: _number(key, value) for key, value in _read(metrics, "--metrics").items()}
    made, new = _registry().added(name, _source(source), build=build, config=_read(config, "--config"), metrics=numbers)
    if as_json:
        asking.say_json(rows.shown(made) | {"new": new})
    elif new:
        click.echo(f"{name}: version {made.number} is registered ({made.digest[:12]})")
    else:
        click.echo(f"{name}: this is version {made.number} already, to the last byte ({made.stage})")


@model.command(epilog="Example: tide model ls digits --json")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=_names)
@as_json
def ls(name: str | None, as_json: bool) -> None:
    """List models, or the versions of NAME."""
    from springtide.cli import model_pages
    from springtide.serve.registry import rows

    registry = _registry()
    if name is not None:
        versions = registry.versions(_known(registry, name))
        if as_json:
            asking.say_json([rows.shown(one) for one in versions])
        else:
            model_pages.show_versions(registry, versions)
        return
    models = [model_pages.summary(registry, one) for one in registry.names()]
    if as_json:
        asking.say_json(models)
    elif not models:
        click.echo("there are no models; `tide model add NAME SOURCE --build MODULE:FUNCTION` registers one")
    else:
        model_pages.show_models(models)


model.add_command(ls, "list")


@model.command(epilog="Example: tide model show digits production")
@_name
@click.argument("version", metavar="[VERSION]", required=False)
@as_json
def show(name: str, version: str | None, as_json: bool) -> None:
    """Print all that is known of a VERSION (by default the one in production, else the newest), or --json."""
    from springtide.cli import model_pages

    registry = _registry()
    name = _known(registry, name)
    versions = registry.versions(name)
    held = next((one for one in versions if one.stage == "production"), versions[-1])
    chosen = registry.version(name, version) if version is not None else held
    page = model_pages.page(registry, chosen)
    if as_json:
        asking.say_json(page)
    else:
        model_pages.show_page(page)


@model.command(epilog="Example: tide model diff digits previous production")
@_name
@click.argument("before", metavar="VERSION")
@click.argument("after", metavar="VERSION")
@as_json
def diff(name: str, before: str, after: str, as_json: bool) -> None:
    """Say what differs between two versions: build, config, metrics, code, weights."""
    from dataclasses import asdict

    from springtide.cli import model_pages
    from springtide.serve.registry import differing

    registry = _registry()
    name = _known(registry, name)
    one, other = registry.version(name, before), registry.version(name, after)
    found = differing.difference(one, other)
    if as_json:
        asking.say_json(asdict(found))
    else:
        model_pages.show_difference(one, other, found)


@model.command(epilog="Example: tide model promote digits 3 --data held-out.jsonl")
@_name
@_version
@click.option("--force", is_flag=True, help="Without the gate; it is recorded who did so.")
@click.option("--data", metavar="FILE", help="Held-out records to judge by, JSONL or a stream; before the rule's own.")
@as_json
def promote(name: str, version: str, force: bool, data: str | None, as_json: bool) -> None:
    """Make VERSION production once it has passed the gate, and return when every server answers with it."""
    from springtide.serve import promotion

    registry, by = _registry(), _whoever()
    name = _known(registry, name)
    number = registry.version(name, version).number
    change = promotion.promote(registry, name, number, by=by, force=force, data=data, code_from=Path.cwd())
    _tell(registry, change, as_json)


@model.command(epilog="Example: tide model rollback digits")
@_name
@as_json
def rollback(name: str, as_json: bool) -> None:
    """Make the previous version production again, and return when every server answers with it."""
    from springtide.serve import promotion

    registry = _registry()
    _tell(registry, promotion.rollback(registry, _known(registry, name), by=_whoever()), as_json)


@model.command(epilog="Example: tide model archive digits 2")
@_name
@_version
@as_json
def archive(name: str, version: str, as_json: bool) -> None:
    """Set VERSION aside; its files stay."""
    from springtide.serve import promotion

    registry = _registry()
    name = _known(registry, name)
    number = registry.version(name, version).number
    change = promotion.archive(registry, name, number, by=_whoever())
    if as_json:
        _tell(registry, change, as_json)
    else:
        click.echo(f"{name}: version {number} is archived")


@model.command(
    epilog="Example: tide model export digits production digits.onnx --format onnx --input x=float32[batch,64]"
)
@_name
@_version
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", metavar="FORMAT", default="safetensors", show_default=True, help="Or torchscript, onnx."
)
@click.option(
    "--input", "inputs", metavar="NAME=TYPE[SIZES]", multiple=True, help="An input, such as x=float32[batch,3]."
)
@as_json
def export(name: str, version: str, file: Path, form: str, inputs: tuple[str, ...], as_json: bool) -> None:
    """Write VERSION to FILE, for other programs."""
    from springtide.serve import export as exporting

    registry = _registry()
    found = registry.version(_known(registry, name), version)
    exporting.export(found, file, form, [exporting.parse_input(text) for text in inputs])
    if as_json:
        asking.say_json({"name": found.name, "version": found.number, "file": str(file), "format": form})
    else:
        click.echo(f"{found.name}: version {found.number} is written to {file} as {form}")


@model.command(
    epilog="Example: tide model gate digits --data held-out.jsonl --metric accuracy --margin 0.01 --slice de"
)
@click.argument("name", metavar="NAME", shell_complete=_names)
@click.argument("version", metavar="[VERSION]", required=False)
@click.option("--data", metavar="FILE", help="Held-out records: a JSONL file, or the URL of a stream.")
@click.option("--metric", metavar="NAME", help="What must not get worse; by default accuracy.")
@click.option("--margin", metavar="NUMBER", help="By which it may be worse than production; by default 0.")
@click.option("--better", metavar="higher|lower", help="Which way is better; by default higher.")
@click.option("--least-count", metavar="N", help="The fewest records to judge by; by default 1.")
@click.option(
    "--slice", "slices", metavar="NAME", multiple=True, help='A part that must not fall either; "*": all of them.'
)
@click.option("--slice-margin", metavar="NUMBER", help="As --margin, for slices; by default the same.")
@click.option("--slice-least-count", metavar="N", help="As --least-count, for slices; by default 1.")
@click.option("--bound", metavar="NUMBER", help="What the metric must reach whatever production does.")
@click.option("--scorer", metavar="MODULE:FUNCTION", help="Scores a module on records, if it has no evaluate itself.")
@click.option("--clear", is_flag=True, help="Forget the rule.")
@as_json
def gate(name: str, version: str | None, clear: bool, as_json: bool, **said: Any) -> None:
    """Show or set the rule of NAME's gate; with VERSION, judge that version now and promote nothing.

    Exit code 1 when VERSION does not pass.
    """
    from springtide.cli import model_pages

    registry = _registry()
    given = {key: value for key, value in said.items() if value not in (None, ())}
    if version is not None:
        raise SystemExit(_judge(registry, name, version, given, as_json))
    if clear:
        registry.set_rule(_known(registry, name), None)
    elif given:
        registry.set_rule(name, model_pages.rule(registry.rule(name), given))
    else:
        name = _known(registry, name)
    rule = registry.rule(name)
    if as_json:
        from dataclasses import asdict

        asking.say_json(asdict(rule) if rule else None)
    else:
        click.echo(f"{name}: {model_pages.rule_text(rule)}")


def _judge(registry: Registry, name: str, version: str, given: Row, as_json: bool) -> int:
    from dataclasses import asdict

    from springtide.cli import model_pages
    from springtide.serve import gate as judging

    name = _known(registry, name)
    rule = model_pages.rule(registry.rule(name), given)
    verdict = judging.decide(registry, registry.version(name, version), rule, code_from=Path.cwd())
    if as_json:
        asking.say_json(asdict(verdict))
    else:
        click.echo(f"{name}: version {version} {'passes' if verdict.passed else 'does not pass'}: {verdict.sentence}")
    return 0 if verdict.passed else 1


def _tell(registry: Registry, change: Change, as_json: bool) -> None:
    from springtide.serve.registry import rows

    servers = len(registry.servers(change.name))
    if as_json:
        asking.say_json(rows.shown_change(change) | {"servers": servers})
        return
    before = f", version {change.before} is previous" if change.before and change.moves else ""
    answering = f"; {servers} {'server answers' if servers == 1 else 'servers answer'} with it" if servers else ""
    was = "is" if change.moves else "was already"
    click.echo(f"{change.name}: version {change.number} {was} production{before}{answering}")


def _registry() -> Registry:
    from springtide.serve.registry import Registry

    return Registry.open()


def _whoever() -> str:
    from springtide.serve.registry.registry import whoever

    return whoever()


def _known(registry: Registry, word: str) -> str:
    """A model's name, which may be shortened where that is unique; what is none is left for the registry to say."""
    names = registry.names()
    beginning = [name for name in names if name.startswith(word)]
    return word if word in names or len(beginning) != 1 else beginning[0]


def _source(text: str) -> Path | str:
    """A run may be named instead of its folder; a URL stays one."""
    from springtide.spec import home

    if "://" in text:
        return text
    path = Path(text)
    of_run = home.runs() / path
    return of_run if not path.exists() and len(path.parts) == 1 and of_run.is_dir() else path


def _read(words: tuple[str, ...], option: str) -> Row:
    """`KEY=VALUE` words, whose values are JSON where they can be, or JSON objects."""
    found: Row = {}
    for word in words:
        key, equals, value = word.partition("=")
        if word.lstrip().startswith("{"):
            found |= _object(word, option)
        elif equals and key.strip():
            try:
                found[key.strip()] = json.loads(value)
            except ValueError:
                found[key.strip()] = value
        else:
            raise UserError(f'{option}: "{word}" says nothing; write KEY=VALUE, or one JSON object')
    return found


def _object(word: str, option: str) -> Row:
    try:
        found = json.loads(word)
    except ValueError as error:
        raise UserError(f"{option}: this is no JSON object: {error}") from None
    return dict(found)


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f'--metrics: {key} is "{value}", and no number; write for example {key}=0.93')
    return float(value)
