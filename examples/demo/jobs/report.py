"""Some seconds of ordinary work: how often each digit stands at the end of a square number."""

from __future__ import annotations

import os
import time
from collections import Counter

until = time.monotonic() + float(os.environ.get("WORK_S", "10"))
ends: Counter[int] = Counter()
done = 0
while time.monotonic() < until:
    for number in range(done, done + 10_000):
        ends[number * number % 10] += 1
    done += 10_000
print(f"{done:,} squares; they end in " + ", ".join(f"{digit}: {count:,}" for digit, count in sorted(ends.items())))
