"""Tokens, secrets, the audit and kept answers, in the store itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pool.offices import ROOT, World, a_world, batch
from springtide.pool.access import EVERYWHERE, Scope
from springtide.pool.answers import KEPT_S, Kept, Repeated
from springtide.pool.refusals import Unauthenticated, Unknown
from springtide.spec.errors import UserError

HOUR_S = 3600.0


@pytest.fixture
def world(tmp_path: Path):  # type: ignore[no-untyped-def]
    with a_world(tmp_path) as found:
        yield found


def test_a_token_is_good_for_its_scope_until_it_is_revoked(world: World) -> None:
    token, text = world.office.tokens.new("default", Scope.MEMBER, "ci", "root", None)
    assert world.office.tokens.identify(text).scopes == {"default": Scope.MEMBER}
    world.office.tokens.revoke(token.id)
    with pytest.raises(Unauthenticated, match="does not know that token"):
        world.office.tokens.identify(text)


def test_an_expired_token_says_when_and_what_to_do(world: World) -> None:
    _, text = world.office.tokens.new("default", Scope.MEMBER, "ci", "root", HOUR_S)
    world.now_s += HOUR_S - 1
    world.office.tokens.identify(text)
    world.now_s += 1
    with pytest.raises(Unauthenticated, match=r"expired on 2027-01-15 09:00 UTC; ask for a new one"):
        world.office.tokens.identify(text)


@pytest.mark.parametrize("text", ["", "tide", "tide_", "tide__", "x_y_z", "tide_00000000_" + "0" * 64, "tide_\udcff_"])
def test_what_is_no_token_is_nobody(world: World, text: str) -> None:
    with pytest.raises(Unauthenticated):
        world.office.tokens.identify(text)


def test_the_token_of_one_id_does_not_open_another(world: World) -> None:
    first, text = world.office.tokens.new("default", Scope.VIEWER, "a", "root", None)
    second, _ = world.office.tokens.new(EVERYWHERE, Scope.ADMIN, "b", "root", None)
    with pytest.raises(Unauthenticated):
        world.office.tokens.identify(text.replace(first.id, second.id))


def test_neither_tokens_nor_their_secrets_lie_in_the_file(world: World) -> None:
    _, text = world.office.tokens.new("default", Scope.MEMBER, "ci", "root", None)
    with world.office.store.database.reading() as rows:
        rows.execute("SELECT 1").fetchall()
    found = b"".join(path.read_bytes() for path in world.folder.glob("pool.sqlite*"))
    assert text.rpartition("_")[2].encode() not in found


def test_use_is_noted_once_a_minute(world: World) -> None:
    token, text = world.office.tokens.new("default", Scope.MEMBER, "ci", "root", None)
    for seconds in (0.0, 30.0, 40.0):
        world.now_s += seconds
        world.office.tokens.identify(text)
    assert world.office.tokens.get(token.id).used_s == world.now_s


def test_an_unknown_token_cannot_be_revoked(world: World) -> None:
    with pytest.raises(Unknown, match="there is no token"):
        world.administration.revoke(ROOT, "deadbeef")


def test_the_value_of_a_secret_goes_to_replicas_only(world: World) -> None:
    row = world.administration.set_secret(ROOT, "db", "default", "s3cret")
    assert "s3cret" not in str(row) and "s3cret" not in str(world.administration.secrets(ROOT, "default"))
    assert world.office.vault.values("default", ["db", "other"]) == {"db": b"s3cret"}
    assert world.office.vault.values("other", ["db"]) == {}
    assert "s3cret" not in str(world.administration.audit(ROOT))


def test_a_job_that_names_a_secret_which_is_not_there_is_told_how_to_set_it(world: World) -> None:
    with pytest.raises(UserError, match=r'secrets: team default has no secret "db"; set it with `tide secret set db'):
        world.submit(batch("one", secrets=["db"]))
    world.administration.set_secret(ROOT, "db", "default", "x")
    world.submit(batch("one", secrets=["db"]))


def test_a_kept_answer_is_given_again_for_a_day(world: World) -> None:
    answers = world.office.answers
    answers.keep("eve", "k", b"request", Kept(201, "{}"))
    assert answers.find("eve", "k", b"request") == Kept(201, "{}")
    assert answers.find("adam", "k", b"request") is None
    with pytest.raises(UserError, match="used for another request"):
        answers.find("eve", "k", b"another")
    with pytest.raises(Repeated):
        answers.keep("eve", "k", b"request", Kept(201, "{}"))
    world.now_s += KEPT_S
    assert answers.find("eve", "k", b"request") is None
    answers.keep("eve", "k", b"request", Kept(201, "[]"))
