"""What is answered in place of an answer: a status and one sentence."""

from __future__ import annotations

from springtide.spec.errors import UserError

RETRY_S = 1.0


class Fault(UserError):
    """A request that gets no answer. `retry_after_s`: when to come back, where that helps."""

    def __init__(self, sentence: str, status: int = 400, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after_s = status, retry_after_s


def too_large(most_bytes: int) -> Fault:
    return Fault(f"the body is larger than {most_bytes:,} bytes, which is the most; send less at a time", 413)


def full(what: str, retry_after_s: float) -> Fault:
    """`what`: "256 requests wait already"."""
    return Fault(f"{what}; come back in {retry_after_s:.0f} s", 429, retry_after_s)


def late() -> Fault:
    return Fault("no answer within the time that the request allows; allow more (X-Deadline-Ms), or ask less", 504)
