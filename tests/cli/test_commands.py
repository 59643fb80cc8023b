"""Every command answers for itself, and bad input gets one sentence and its exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tide import tide

from springtide.cli import commands, run_arguments
from springtide.cli.run import launch_options, run
from springtide.spec import Refused, SpringtideError, UserError, quantities
from springtide.spec.quantities import Blow, Every, Range

COMMANDS = (
    "up", "down", "status", "node", "submit", "resize", "pause", "resume", "stop", "cancel", "retry", "bid",
    "model", "serve", "loop", "ps", "top", "logs", "explain", "events", "usage", "price", "team", "token", "secret",
    "run", "checkpoints", "stream", "simulate", "doctor", "schema", "completion", "version",
)  # fmt: skip
SECOND_WORDS = (
    "node list", "node drain", "node undrain", "team list", "team set", "token new", "token list", "token revoke",
    "secret set", "secret list", "secret remove",
    "loop list", "loop show", "loop release", "loop stop",
    "stream ls", "stream tail", "stream append", "stream stat", "stream seal",
)  # fmt: skip
WITHOUT_EXAMPLE = ("checkpoints", "simulate", "doctor", "version")
NOT_SAID = dict.fromkeys(("workers", "start", "name", "checkpoint", "every", "seed", "sample", "keep", "threads"))
NOT_SAID |= {"fresh": False, "chaos": ()}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text("from springtide import train\n")
    return path


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["up", "--help"], ["node", "drain", "-h"]])
def test_the_real_command_explains_itself(words: list[str], tmp_path: Path) -> None:
    answer = tide(*words, home=tmp_path)
    assert answer.returncode == 0
    assert answer.stdout.startswith("Usage: tide")
    assert not answer.stderr


@pytest.mark.parametrize("words", [*COMMANDS, *SECOND_WORDS])
def test_every_command_explains_itself_in_lines_that_fit(words: str) -> None:
    answer = CliRunner().invoke(commands.tide, [*words.split(), "--help"])
    assert answer.exit_code == 0
    assert answer.output.startswith(f"Usage: tide {words.split()[0]}")
    assert all(len(line) <= 80 for line in answer.output.splitlines())


@pytest.mark.parametrize("words", [name for name in (*COMMANDS, *SECOND_WORDS) if name not in WITHOUT_EXAMPLE])
def test_every_command_shows_an_example(words: str) -> None:
    shown = CliRunner().invoke(commands.tide, [*words.split(), "--help"]).output
    assert re.search(r"(?s)Examples?: .*tide|To keep it: tide|tide run train.py", shown)


def test_every_command_of_the_pool_speaks_json() -> None:
    for words in (*COMMANDS[: COMMANDS.index("checkpoints")], *SECOND_WORDS):
        shown = CliRunner().invoke(commands.tide, [*words.split(), "--help"]).output
        assert "--json" in shown or words in ("node", "team", "token", "secret", "stream", "model", "serve", "loop"), (
            words
        )


def test_the_help_of_tide_names_every_command(tmp_path: Path) -> None:
    for words in ([], ["--help"]):
        listed = tide(*words, home=tmp_path).stdout.partition("The pool:\n")[2]
        assert re.findall(r"(?m)^  ([a-z]+) ", listed) == list(COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from springtide.cli import commands;"
        "commands.tide.main(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    modules = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        .stdout.splitlines()[-1]
        .split()
    )
    assert not {"torch", "numpy", "rich", "httpx2", "matplotlib", "pyarrow", "fsspec", "springtide.cli.run"} & set(
        modules
    )


def test_what_tide_run_needs_before_it_launches_imports_no_torch(script: Path) -> None:
    code = (
        "import sys, springtide.cli.run as r, springtide.cli.live, springtide.train.report, springtide.train.plot;"
        f"r.launch_options({str(script)!r}, (), **{NOT_SAID!r}); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "matplotlib"} & set(modules)


def test_version_names_springtide_python_and_torch(tmp_path: Path) -> None:
    answer = tide("version", home=tmp_path).stdout
    assert answer.startswith("springtide ")
    assert f"Python {sys.version.split()[0]}" in answer
    assert "torch " in answer


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("verson", 'tide has no command "verson"; did you mean "version"?'),
        ("zzzz", 'tide has no command "zzzz"; `tide --help` lists all'),
        ("--jsno", "tide has no option --jsno"),
        ("run", "SCRIPT is missing; write tide run [OPTIONS] SCRIPT [ARGS]..."),
        ("run --wrkers 3 train.py", 'run has no option --wrkers; did you mean "--workers"?'),
        ("run --workers", "--workers needs a value after it"),
        ("run --json=3 train.py", "--json takes no value"),
        ("run train.py", "train.py does not exist"),
        ("run .", "is a folder; write the name of a Python file in it"),
        ("nod", 'tide has no command "nod"; did you mean "node"?'),
        ("kill", 'tide has no command "kill"; did you mean "cancel"?'),
        ("node drian node-0", 'tide node has no command "drian"; did you mean "drain"?'),
        ("token zzz", 'tide token has no command "zzz"; it has new, list, revoke'),
        ("resize NAME", "N|MIN:MAX|auto is missing; write tide resize [OPTIONS] NAME N|MIN:MAX|auto"),
        ("resize digits many", 'N: "many" is no number of replicas; write 4, or 1..4 for between one and four; '),
        ("resize digits 4:1", 'N: "4:1" counts down; write 1..4; `tide resize digits auto` leaves it to the pool'),
        ("resize digits 0", 'N: "0" would leave a job with no replica'),
        ("submit", "FILE is missing; write tide submit jobs.yaml, or tide submit --name count -- COMMAND"),
        ("submit nowhere.yaml", "nowhere.yaml: there is no such file"),
        ("submit --name x", "COMMAND is missing; write it behind --: tide submit --name count -- python count.py"),
        ("submit -- python x.py", "--name is missing; write tide submit --name NAME -- COMMAND"),
        ("submit --cpu 1 jobs.yaml", "--cpu belongs to a command"),
        ("submit --name x --cpu many -- true", '--cpu: "many" is no number; write 2, 0.5 or 500m'),
        ("submit --name x --kind job -- true", '--kind: "job"'),
        ("submit --name X -- true", '--name: "X" is no name'),
        ("submit --name x --replicas 3..1 -- true", '--replicas: "3..1" counts down; write 1..3'),
        ("submit --name x --env A -- true", '--env: "A" has no value; write --env A=VALUE'),
        ("submit --name x --folder nowhere -- true", "--folder: there is no folder"),
        ("ps --state runing", '--state: no job is "runing"; did you mean "running"?'),
        ("top", "this is no terminal; write tide top --once"),
        ("logs web -n many", '--lines: "many" is no number of lines; write --lines 200'),
        ("usage --by tem", '--by: nothing is summed by "tem"; did you mean "team"?'),
        ("usage --since 7", '--since: "7" has no unit; write 7s, or 7m for minutes'),
        ("bid sweep", "JOB and CORE are wanted; write tide bid JOB 0.05"),
        ("bid sweep cheap", 'CORE: "cheap" is no number; write 0.05'),
        ("bid --would cheap", '--would: "cheap" is no number; write 0.05'),
        ("team set vision --guarantee cpus=4", '--guarantee: no resource is called "cpus"; did you mean "cpu"?'),
        ("team set vision --guarantee cpu", '--guarantee: "cpu" does not say how much'),
        ("team set vision --weight heavy", '--weight: "heavy" is no number; write 2'),
        ("token new --team vision --name ci --scope amin", '--scope: there is no scope "amin"; did you mean "admin"?'),
        ("secret set x --file nowhere", "--file: nowhere cannot be read (no such file or directory)"),
        ("run --team vision SCRIPT.py", "does not exist"),
        ("stop", "NAME is missing"),
        ("ps all", "ps takes no more words, and all is too much"),
        ("doctor --jsn", 'doctor has no option --jsn; did you mean "--json"?'),
        ("checkpoints nowhere", "there is no folder nowhere; no run of"),
        ("completion tcsh", '"tcsh" cannot complete words; write tide completion bash, zsh or fish'),
    ],
)
def test_a_mistyped_line_gets_one_sentence(words: str, sentence: str, tmp_path: Path) -> None:
    answer = tide(*words.split(), home=tmp_path)
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert answer.stderr.startswith("tide: ")
    assert answer.stderr.count("\n") == 1
    assert not answer.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--workers 3:1", '"3:1" counts down; write 1:3'),
        ("--workers 0", "no worker"),
        ("--workers 1:4 --start 5", "--start: 5 is not within --workers 1:4; write a number from 1 to 4"),
        ("--every 30", '--every: "30" has no unit'),
        ("--seed -1", "--seed: -1 is negative"),
        ("--seed x", '--seed: "x" is no whole number'),
        ("--keep 0", "--keep: 0 is too few; the least is 1"),
        ("--sample 5", "write 5% if you meant hundredths"),
        ("--name a/b", '"a/b" cannot name a run'),
        ("--chaos kil=1,at=step:4", 'did you mean "kill"?'),
        ("--chaos kill=9,at=step:4 --workers 4", "kill=9 names more workers than --workers 4 allows; write kill=all"),
        ("--plot loss.txt", "is no kind of picture that can be drawn; write loss.png"),
        ("--report nowhere/report.json", "nowhere does not exist; make it"),
        ("--report .", "is a folder; write "),
        ("--checkpoint train.py", "is a file; write a folder"),
    ],
)
def test_bad_input_to_a_run_gets_one_sentence_and_writes_nothing(
    words: str, sentence: str, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script.parent)
    answer = tide("run", *words.split(), script, home=script.parent / "home")
    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert answer.stderr.startswith("tide: ")
    assert answer.stderr.count("\n") == 1
    assert [path.name for path in script.parent.iterdir()] == ["train.py"]


def test_a_missing_script_is_told_the_nearest_name(script: Path) -> None:
    answer = tide("run", script.with_name("trian.py"), home=script.parent / "home")
    assert f'did you mean "{script}"?' in answer.stderr


def test_a_launch_carries_what_was_typed(script: Path) -> None:
    said = NOT_SAID | {
        "workers": "1..3",
        "start": "2",
        "every": "5m",
        "seed": "7",
        "sample": "1%",
        "keep": "2",
        "chaos": ("kill=1,every=2s", "supervisor,at=step:9"),
    }
    options = launch_options(str(script), ("--lr", "0.1"), **said)
    assert options.script == script
    assert options.arguments == ("--lr", "0.1")
    assert options.name == "train"
    assert (options.workers, options.start) == (Range(1, 3), 2)
    assert (options.every, options.seed, options.sample, options.keep) == (Every(seconds=300), 7, 0.01, 2)
    assert options.chaos == (Blow("kill", 1, every_seconds=2), Blow("supervisor", at_step=9))


def test_a_run_is_named_after_its_script_as_far_as_a_name_may_go(tmp_path: Path) -> None:
    odd = tmp_path / ".my first try!.py"
    odd.touch()
    assert launch_options(str(odd), (), **NOT_SAID).name == "my-first-try-"


@pytest.mark.parametrize(
    ("words", "ours", "script_gets"),
    [
        ("--workers 1:4 train.py --lr 0.1", "--workers 1:4", "--lr 0.1"),
        ("train.py --workers 1:4 --lr 0.1", "--workers 1:4", "--lr 0.1"),
        ("--json train.py --workers=2 --steps 9 --workers 3", "--json --workers=2", "--steps 9 --workers 3"),
        ("train.py -- --seed 3", "", "--seed 3"),
        ("--fresh -- train.py --seed 3", "--fresh", "--seed 3"),
        ("train.py --lr 0.1 -- --seed 3", "", "--lr 0.1 -- --seed 3"),
        ("train.py data.csv --quiet", "", "data.csv --quiet"),
        ("train.py", "", ""),
    ],
)
def test_words_are_divided_between_tide_and_the_script(words: str, ours: str, script_gets: str) -> None:
    divided = run_arguments.divided(run, click.Context(run), words.split())
    assert divided == [*ours.split(), "--", "train.py", *script_gets.split()]


@pytest.mark.parametrize(("error", "code"), [(SpringtideError, 1), (UserError, 2), (Refused, 4)])
def test_each_error_has_its_sentence_and_exit_code(error: type[SpringtideError], code: int, tmp_path: Path) -> None:
    answer = raising(f"{error.__module__}.{error.__name__}('the pool is closed')", tmp_path)
    assert (answer.returncode, answer.stderr) == (code, "tide: the pool is closed\n")


def test_an_interrupt_ends_with_its_own_exit_code(tmp_path: Path) -> None:
    answer = raising("KeyboardInterrupt()", tmp_path)
    assert (answer.returncode, answer.stderr.strip()) == (130, "")


def test_a_bug_shows_an_id_and_keeps_its_traceback_in_the_log(tmp_path: Path) -> None:
    answer = raising("ZeroDivisionError('oh')", tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("tide: this is a bug in Springtide (")
    assert answer.stderr.count("\n") == 1
    (log,) = (tmp_path / "logs").iterdir()
    assert log.stem in answer.stderr
    assert "ZeroDivisionError: oh" in log.read_text()


def raising(expression: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`tide version`, with an error in its innermost part."""
    code = (
        "import sys, springtide.spec.errors, springtide.train.hardware as h\n"
        f"def broken(): raise {expression}\n"
        "h.torch_version = broken; sys.argv = ['tide', 'version']\n"
        "from springtide.cli import main; main()"
    )
    environment = {"TIDE_HOME": str(home), "PATH": ""}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    from tide import TIDE

    with subprocess.Popen([str(TIDE), "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # type: ignore[union-attr]
        assert process.stderr.read() == b""  # type: ignore[union-attr]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_taught_the_words(shell: str, tmp_path: Path) -> None:
    assert "_TIDE_COMPLETE" in tide("completion", shell, home=tmp_path).stdout


def test_completion_knows_commands_options_and_runs(tmp_path: Path) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)

    def completed(*words: str) -> str:
        variables = {
            "_TIDE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["tide", *words]),
            "COMP_CWORD": str(len(words)),
        }
        return tide(home=tmp_path, **variables).stdout

    assert "plain,checkpoints" in completed("che")
    assert "plain,--workers" in completed("run", "--wor")
    assert "plain,digits" in completed("stop", "di")


def test_the_doctor_says_what_each_lack_means(tmp_path: Path) -> None:
    checks = json.loads(tide("doctor", "--json", home=tmp_path).stdout)
    names = [check["name"] for check in checks]
    assert names == [
        "cores",
        "memory",
        "python",
        "torch",
        "gpu",
        "system",
        "pidfd",
        "memfd",
        "futex",
        "populate",
        "cgroups",
        "home",
        "java",
        "go",
    ]
    assert all(check["means"] for check in checks if check["state"] != "ok")


def test_the_doctor_finds_a_missing_tool_and_an_unwritable_home(tmp_path: Path) -> None:
    answer = tide("doctor", home=Path("/proc/1/nowhere"), PATH="")
    assert answer.returncode == 1
    lines = {line.split()[1]: line for line in answer.stdout.splitlines()}
    assert lines["java"].startswith("lacks")
    assert "cluster tests" in lines["java"]
    assert lines["home"].startswith("FAILS")
    assert "set TIDE_HOME" in lines["home"]


def test_the_default_number_of_workers_is_the_cores_at_most_the_default_microbatches(script: Path) -> None:
    workers = launch_options(str(script), (), **NOT_SAID).workers
    assert workers.minimum == 1
    assert 1 <= workers.maximum <= 8
    assert str(quantities.workers(str(workers))) == str(workers)


def test_the_schema_is_printed_for_jobs_and_for_pools(tmp_path: Path) -> None:
    for words, field in (([], "script"), (["--kind", "jobs"], "script"), (["--kind", "pool"], "nodes")):
        assert field in json.loads(tide("schema", *words, home=tmp_path).stdout)["properties"]


def test_a_schema_that_is_not_there_is_told_the_nearest(tmp_path: Path) -> None:
    answer = tide("schema", "--kind", "jbs", home=tmp_path)
    assert (answer.returncode, answer.stderr) == (
        2,
        'tide: --kind: there is no schema for "jbs"; did you mean "jobs"?\n',
    )
