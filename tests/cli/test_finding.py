"""What a name on the command line means."""

from __future__ import annotations

import pytest

from springtide.cli.finding import Target, _divided, _one_of_both, meant
from springtide.spec.errors import Refused, UserError


def a_job(name: str, over: bool = False) -> Target:
    return Target("pool", name, f"{name}-1", over)


def a_run(name: str, over: bool = False) -> Target:
    return Target("local", name, name, over)


def test_the_beginning_of_one_name_is_enough() -> None:
    assert meant("dig", "dig", [a_job("digits"), a_job("web")]) == a_job("digits")
    assert meant("we", "we", [a_job("digits"), a_run("web")]) == a_run("web")


def test_a_beginning_of_several_names_says_which() -> None:
    with pytest.raises(UserError, match='"web" is the beginning of web-1, web-2; write more of it'):
        meant("web", "web", [a_job("web-1"), a_job("web-2")])


def test_what_is_over_does_not_stand_in_the_way_of_what_is_not() -> None:
    assert meant("we", "we", [a_job("web"), a_job("well", over=True)]) == a_job("web")
    assert meant("wel", "wel", [a_job("web"), a_job("well", over=True)]).name == "well"


def test_a_mistyped_name_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match='no job or run is called "wbe"; did you mean "web"'):
        meant("wbe", "wbe", [a_job("web")])
    with pytest.raises(UserError, match=r'called "zzz"; known: digits, web'):
        meant("zzz", "zzz", [a_job("web"), a_job("digits")])
    with pytest.raises(UserError, match="there is none yet"):
        meant("web", "web", [])


def test_a_job_and_a_run_of_one_name_are_told_apart() -> None:
    assert _divided("local/web") == ("local", "web") and _divided("web") == (None, "web")
    with pytest.raises(Refused, match="write pool/web or local/web"):
        _one_of_both("web", [a_job("web"), a_run("web")])
    assert _one_of_both("web", [a_job("web", over=True), a_run("web")]) == a_run("web")
    assert _one_of_both("web", [a_run("web", over=True), a_job("web", over=True)]).where == "pool"
    with pytest.raises(UserError, match='"there/web" names no job'):
        _divided("there/web")
