"""Syncs what was appended, a while after: one thread for each partition that this process appends to."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from springtide.spec.errors import SpringtideError


class Syncer:
    """`keep` syncs; `due_s` says how long there is until then. The thread begins when it is first woken."""

    def __init__(self, keep: Callable[[], None], due_s: Callable[[], float]) -> None:
        self._keep, self._due_s = keep, due_s
        self._process = 0
        self._asked = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = False

    def wake(self) -> None:
        """Something was appended."""
        if self._process != os.getpid():  # also in a fork, which has no thread of its parent's
            self._process, self._asked = os.getpid(), threading.Event()
            self._thread = threading.Thread(target=self._work, args=(self._asked,), daemon=True)
            self._thread.start()
        self._asked.set()

    def end(self) -> None:
        """Sync, and end the thread."""
        if self._thread is not None and self._process == os.getpid():
            self._over = True
            self._asked.set()
            self._thread.join()
            self._thread, self._process, self._over = None, 0, False

    def _work(self, asked: threading.Event) -> None:
        while not self._over:
            asked.wait()
            asked.clear()
            if not self._over and (left_s := self._due_s()) > 0:
                time.sleep(left_s)
            with suppress(SpringtideError):  # the words say it to the next who appends
                self._keep()
