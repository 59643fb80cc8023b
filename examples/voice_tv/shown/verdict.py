"""What was promised, and whether it held. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from shown.recording import NEW, Exam, Story

LEAST_KNOWN, LEAST_NEW = 0.95, 0.90
# Two versions that are equally good differ by that much on so many recordings by chance (about one standard deviation).
NOT_WORSE = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """One promise, what was measured, and whether it holds."""

    promise: str
    measured: str
    holds: bool


def lines(story: Story, before: Exam, after: Exam, left: int) -> list[Line]:
    """All promises. `before` and `after`: the same recordings of voices that nobody trained on."""
    known, then = before.share(new=False), after.share(new=False)
    new, learnt = before.share(new=True), after.share(new=True)
    versions = [version for _, version in story.changes()]
    requests = len(story.answers) + len(story.corrected)
    same = len(story.servers) == 2 and bool(story.servers[0]) and story.servers[0] <= story.servers[1]
    told = ", ".join(map(str, versions))
    return [
        Line("voices never heard before are understood", f"{known:.1%} of their commands", known >= LEAST_KNOWN),
        Line(f'nobody had taught it "{NEW}"', f"{new:.0%} understood", new <= 0.05),
        Line(f'it learnt "{NEW}" from corrections alone', f"{learnt:.0%} understood", learnt >= LEAST_NEW),
        Line("what it knew it still knows", f"{known:.1%}, then {then:.1%}", then >= known - NOT_WORSE),
        Line("better versions took over by themselves", f"versions {told} answered", len(versions) > 1),
        Line("no server was restarted for it", f"process {_pids(story)}", same),
        Line("no request was lost", f"{len(story.failures)} of {requests:,}", not story.failures and requests > 0),
        Line("nothing is left behind", f"{left} processes", left == 0),
    ]


def _pids(story: Story) -> str:
    return ", then ".join(" and ".join(map(str, sorted(pids))) or "none" for pids in story.servers)
