"""The supervisor's thread that plans the steps of a run on a stream; the supervisor tells workers what it found."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from springtide.spec import SpringtideError
from springtide.train.planner import WAIT_SECONDS, Planner, Task


class Planning:
    """See the module. It lives and dies with its process, and so does the log's lease."""

    def __init__(self, task: Task, wake: Callable[[], object]) -> None:
        """`wake()` is called from the thread when there is news."""
        self.failure: SpringtideError | None = None  # why it does not go on
        self.begun = task.step  # the step that the run goes on from
        self._told: deque[str] = deque()
        self._planner = Planner(task, self._told.append)
        self._reached, self._wake = task.step, wake
        self._look_seconds = None if task.rules.seconds is None else WAIT_SECONDS  # time passes without steps too
        self._progress = threading.Condition()
        threading.Thread(target=self._run, daemon=True, name="planning").start()

    @property
    def planned(self) -> int:
        """The last step that is in the log, and so may be handed out."""
        return self._planner.planned

    @property
    def last(self) -> int | None:
        """The last step that there will be, once the stream has an end."""
        return self._planner.last

    def reached(self, step: int) -> None:
        """That step is committed."""
        if step > self._reached:
            with self._progress:
                self._reached = step
                self._progress.notify()

    def sentences(self) -> list[str]:
        """What there is to tell, once."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def _run(self) -> None:
        planner = self._planner
        try:
            while not planner.over:
                if planner.advance(self._reached) or self._told:
                    self._wake()
                if planner.full(self._reached):
                    with self._progress:
                        self._progress.wait_for(lambda: not planner.full(self._reached), self._look_seconds)
                else:
                    planner.wait()
        except SpringtideError as error:
            self.failure = error
        except OSError as error:
            self.failure = SpringtideError(f"the steps cannot be planned: {error}")
        self._wake()
