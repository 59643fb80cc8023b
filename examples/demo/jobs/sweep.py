"""Some seconds of trials: the number whose Collatz sequence is the longest, as far as time allows."""

from __future__ import annotations

import os
import time

until = time.monotonic() + float(os.environ.get("WORK_S", "10"))
longest, best, number = 0, 1, 1
while time.monotonic() < until:
    number, value, steps = number + 1, number + 1, 0
    while value != 1:
        value, steps = (value // 2 if value % 2 == 0 else 3 * value + 1), steps + 1
    if steps > longest:
        longest, best = steps, number
print(f"of the first {number:,} numbers {best:,} takes longest: {longest} steps")
