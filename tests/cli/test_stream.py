"""`tide stream`: filling, printing and measuring streams from the shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from running import TIDE, environment, tide


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"log://{tmp_path}/home/streams/requests"


def lines(folder: Path, *texts: str) -> Path:
    path = folder / "records.jsonl"
    path.write_text("\n".join(texts) + "\n")
    return path


def test_what_was_appended_is_listed_printed_and_counted(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = lines(tmp_path, '{"id": 1}', "", '{"id": 2, "text": "ä"}', '{"id": 3}')
    assert tide("stream", "append", url, path, home=home).stdout == f"3 records appended to {url}\n"
    assert tide("stream", "tail", url, "-n", 2, home=home).stdout == '{"id": 2, "text": "ä"}\n{"id": 3}\n'
    told = [json.loads(line) for line in tide("stream", "tail", url, "--json", home=home).stdout.splitlines()]
    assert [(one["partition"], one["offset"], one["value"]["id"]) for one in told] == [(0, 0, 1), (0, 1, 2), (0, 2, 3)]
    assert tide("stream", home=home).stdout.split() == ["url", "partitions", "records", "state", url, "1", "3", "open"]
    stat = json.loads(tide("stream", "stat", url, "--json", home=home).stdout)
    assert stat["processors"] == []
    (partition,) = stat["partitions"]
    assert (partition["first"], partition["end"], partition["sealed"]) == (0, 3, False)


def test_records_of_one_field_go_to_one_partition(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = lines(tmp_path, *(json.dumps({"id": at % 7}) for at in range(70)))
    tide("stream", "append", url, path, "--partitions", 3, "--key", "id", home=home)
    told = [json.loads(line) for line in tide("stream", "tail", url, "-n", 70, "--json", home=home).stdout.splitlines()]
    places = {(one["value"]["id"], one["partition"]) for one in told}
    assert len(told) == 70
    assert len(places) == 7
    assert len({partition for _, partition in places}) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "records.jsonl:2: a record is a JSON object, and this is none"),
        ("{oops", "records.jsonl:2: Expecting property name"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_appended(text: str, said: str, url: str, tmp_path: Path) -> None:
    answer = tide("stream", "append", url, lines(tmp_path, '{"id": 1}', text), home=tmp_path / "home")
    assert answer.returncode == 2
    assert said in answer.stderr
    assert not Path(url.removeprefix("log://")).exists()


def test_following_ends_with_the_seal(url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    tide("stream", "append", url, lines(tmp_path, '{"id": 1}'), home=home)
    words = [TIDE, "stream", "tail", "-f", url]
    follower = subprocess.Popen(words, env=environment(home), stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    assert follower.stdout.readline() == '{"id": 1}\n'
    given = subprocess.run(
        [TIDE, "stream", "append", url, "-"], env=environment(home), input='{"id": 2}\n', text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    assert given.stdout == f"1 record appended to {url}\n"
    assert follower.stdout.readline() == '{"id": 2}\n'
    assert tide("stream", "seal", url, home=home).stdout == f"{url} is sealed behind 2 records\n"
    assert follower.wait(60) == 0
    refused = tide("stream", "append", url, lines(tmp_path, "{}"), home=home)
    assert refused.returncode == 4
    assert refused.stderr == f"tide: {url} is sealed: nothing more can be appended\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tail", "log:///nowhere"), "log:///nowhere: there is no log"),
        (("stat", "requests"), '"requests" is no stream; write log:///absolute/path or kafka://host:9092/topic'),
        (("tail", "log:///x", "--offset", "3"), "--offset counts the records of one partition; add --partition 0"),
        (("append", "log:///tmp/never", "missing.jsonl"), "FILE: missing.jsonl cannot be read"),
        (("ls", "ftp://x"), "ftp://x: streams are listed below log:///folder or at kafka://host:9092"),
        (("tale", "x"), 'tide stream has no command "tale"; did you mean "tail"?'),
    ],
)
def test_what_makes_no_sense_is_one_sentence(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    answer = tide("stream", *words, home=tmp_path / "home")
    assert answer.returncode == 2
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1
