"""What can be done with teams, nodes, tokens, secrets, prices and the record of it all, without HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from springtide.core.market import would_buy
from springtide.pool import access
from springtide.pool.access import EVERYWHERE, Identity, Scope
from springtide.pool.office import Office, Seal, unsealed
from springtide.pool.refusals import Unknown
from springtide.pool.rows import Row, audit_row, node_rows, secret_row, team_row, token_row, usage_rows
from springtide.pool.vault import MOST_BYTES
from springtide.spec import amounts
from springtide.spec.checks import problems
from springtide.spec.errors import UserError
from springtide.spec.files import pool_from_text, to_data
from springtide.spec.quantities import nearest
from springtide.spec.sharing import Team

DAY_S = 86_400.0
_LIVE = ("waiting", "running", "paused")


class Administration:
    """Operations beside those on jobs. Errors as in `service`."""

    def __init__(self, office: Office) -> None:
        self.office = office

    # --- nodes

    def nodes(self, who: Identity) -> Row:
        """Every node, what is held on it, and by which of the jobs that the asker may see."""
        tree, records = self.office.tree(), self.office.store.jobs(states=_LIVE, limit=1_000_000)
        shown = {one.id: access.holds(who, Scope.VIEWER, one.job.team, tree) for one in records}
        return {"nodes": node_rows(self.office.live.pool(), records, self.office.drained(), shown)}

    def drain(self, who: Identity, node: str, drained: bool, seal: Seal = unsealed) -> Row:
        """Nothing new is placed on a drained node, and what runs there goes elsewhere."""
        access.require(who, "nodes.update", self.office.tree())
        names = [one.name for one in self.office.live.pool().nodes]
        if node not in names:
            raise Unknown(f'there is no node "{node}"{nearest(node, names) or "; `tide node list` shows all"}')
        with self.office.store.database.writing():
            out = set(self.office.drained()) - {node} | ({node} if drained else set())
            self.office.store.configure("drained", sorted(out))
            row: Row = next(one for one in self.nodes(who)["nodes"] if one["name"] == node)
            seal(row)
        self.office.live.wake()
        return row

    # --- teams

    def teams(self, who: Identity) -> Row:
        """The teams that the asker may see, with what they hold now."""
        tree, uses = self.office.tree(), self.office.live.team_use()
        seen = [team for team in self.office.teams() if access.holds(who, Scope.VIEWER, team.name, tree)]
        return {"teams": [team_row(team, uses.get(team.name)) for team in seen]}

    def set_team(self, who: Identity, name: str, data: Mapping[str, Any], seal: Seal = unsealed) -> Row:
        """A new team, or another record of one. Wants an admin of the teams above it, before and after."""
        team = _read_team(name, data)
        use = self.office.live.team_use().get(name)
        nodes = self.office.live.pool().nodes
        with self.office.store.database.writing():
            there = {one.name: one for one in self.office.teams()}
            tree = self.office.tree()
            for above in {team.parent, there[name].parent if name in there else team.parent}:
                access.require(who, "teams.set", tree, EVERYWHERE if above is None else above)
            rules = replace(self.office.rules(), teams=tuple((there | {name: team}).values()))
            if found := problems(replace(rules, nodes=nodes)):
                raise UserError("\n".join(map(str, found)))
            self.office.store.configure("pool", to_data(rules))
            row = team_row(team, use)
            seal(row, name)
        self.office.live.wake()
        return row

    # --- tokens and secrets

    def tokens(self, who: Identity) -> Row:
        """Of the teams that the asker is an admin of; never the tokens themselves."""
        return {"tokens": [token_row(one) for one in self.office.tokens.all(self.office.seen_by(who, Scope.ADMIN))]}

    def new_token(
        self, who: Identity, team: str, scope: str, name: str, expires_in_s: float | None, seal: Seal = unsealed
    ) -> Row:
        """The token is in the answer, once and never again."""
        tree = self.office.tree()
        access.require(who, "tokens.new", tree, team)
        if team != EVERYWHERE and team not in tree.above:
            raise UserError(f'team: there is no team "{team}"{nearest(team, tree.above)}')
        with self.office.store.database.writing():
            token, text = self.office.tokens.new(team, Scope[scope.upper()], name, who.name, expires_in_s)
            seal({}, team)
        return token_row(token) | {"token": text}

    def revoke(self, who: Identity, id_: str, seal: Seal = unsealed) -> Row:
        """Who holds it is turned away from now on."""
        tree = self.office.tree()
        with self.office.store.database.writing():
            token = self.office.tokens.get(id_)
            if not access.holds(who, Scope.VIEWER, token.team, tree):
                raise Unknown(f'there is no token "{id_}"; `tide token list` shows those that are there')
            access.require(who, "tokens.revoke", tree, token.team)
            self.office.tokens.revoke(id_)
            row = token_row(token)
            seal(row, token.team)
        return row

    def secrets(self, who: Identity, team: str) -> Row:
        """Names, and who set them; never the values."""
        self._team_for(who, "secrets.list", team)
        return {"secrets": [secret_row(one) for one in self.office.vault.all([team])]}

    def set_secret(self, who: Identity, name: str, team: str, value: str, seal: Seal = unsealed) -> Row:
        """Replicas that start from now on find it as a file."""
        self._team_for(who, "secrets.set", team)
        amounts.name(name, "name")
        if len(value.encode()) > MOST_BYTES:
            raise UserError(f"value: a secret may have {MOST_BYTES >> 10} KiB; keep the rest where jobs can fetch it")
        with self.office.store.database.writing():
            self.office.vault.set(team, name, value.encode(), who.name)
            row = next(secret_row(one) for one in self.office.vault.all([team]) if one.name == name)
            seal(row, team)
        return row

    def remove_secret(self, who: Identity, name: str, team: str, seal: Seal = unsealed) -> Row:
        """Replicas that run keep their files."""
        self._team_for(who, "secrets.remove", team)
        with self.office.store.database.writing():
            self.office.vault.remove(team, name)
            row: Row = {"team": team, "name": name}
            seal(row, team)
        return row

    def _team_for(self, who: Identity, operation: str, team: str) -> None:
        tree = self.office.tree()
        if team not in tree.above or not access.holds(who, Scope.VIEWER, team, tree):
            known = [one for one in tree.above if access.holds(who, Scope.VIEWER, one, tree)]
            raise Unknown(f'there is no team "{team}"{nearest(team, known)}')
        access.require(who, operation, tree, team)

    # --- money, and what was done

    def usage(self, who: Identity, by: str, since_s: float | None, team: str | None = None) -> Row:
        """Core-seconds and gpu-seconds since a time (unix seconds); by default of the last seven days."""
        since_s = self.office.clock() - 7 * DAY_S if since_s is None else since_s
        teams = self.office.seen_by(who)
        if team is not None:
            self._team_for(who, "usage", team)
            teams = frozenset([team])
        return {"since_s": since_s, "rows": usage_rows(self.office.store.usage(since_s, teams), by)}

    def prices(self, since_s: float | None) -> Row:
        """What a core and a GPU cost a spot job now, and since when; by default of the last day."""
        since_s = self.office.clock() - DAY_S if since_s is None else since_s
        now = self.office.live.prices()
        history = [{"since_s": at, "core": core, "gpu": gpu} for at, core, gpu in self.office.store.prices(since_s)]
        return {
            "core": now.core, "gpu": now.gpu, "floor_core": now.floor_core, "floor_gpu": now.floor_gpu,
            "history": history,
        }  # fmt: skip

    def would_buy(self, per_core_hour: float, per_gpu_hour: float, cpu: float, gpu: float, span_s: float) -> Row:
        """What one replica of that size would have got for this bid lately."""
        found = would_buy(
            self.office.live.prices().history, per_core_hour, per_gpu_hour, self.office.clock(), cpu, gpu, span_s
        )
        return {
            "sentence": str(found), "won_s": found.won_s, "of_s": found.of_s, "cost": found.cost,
            "longest_wait_s": found.longest_wait_s,
        }  # fmt: skip

    def audit(self, who: Identity, after: int = 0, limit: int = 100) -> Row:
        """Who did what, oldest first, in teams that the asker is an admin of."""
        found = self.office.audit.entries(self.office.seen_by(who, Scope.ADMIN), after, limit)
        return {"entries": [audit_row(one) for one in found], "next": found[-1].id if found else after}

    def down(self, who: Identity, keep: bool, seal: Seal = unsealed) -> Row:
        """Only the permission and the record; the server does it."""
        access.require(who, "down", self.office.tree())
        row: Row = {"keep": keep}
        with self.office.store.database.writing():
            seal(row)
        return row


def _read_team(name: str, data: Mapping[str, Any]) -> Team:
    """UserError: what is wrong with it, by field."""
    if data.get("name", name) != name:
        raise UserError(f'name: "{data["name"]}" is not the team of the address, which is {name}')
    if "teams" in data:
        raise UserError("teams: name the parent of each team below it instead")
    parent = data.get("parent")
    if parent is not None and not isinstance(parent, str):
        raise UserError("parent: write the name of a team")
    # Whether there is such a parent is seen among all teams, not in this text.
    alone = {key: value for key, value in data.items() if key != "parent"} | {"name": name}
    try:
        (team,) = pool_from_text(json.dumps({"teams": [alone]}), "team", nodes_elsewhere=True).teams
    except UserError as error:
        raise UserError(re.sub(r"(?m)^team:\d+:\d+: (teams\.)?", "team: ", str(error))) from None
    return replace(team, parent=parent)
