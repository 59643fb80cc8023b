"""The load generator, a process of its own: `python load.py PORT DAY_S MIDNIGHT SEED`.

Open loop: a request is sent when its time has come, whatever became of those before. A line for each that is over:
when it was sent and answered (unix seconds), how often it was asked, and by whom it was answered (0: by nobody).
A connection that breaks is tried a second time, as browsers do; that is counted. SIGTERM ends it after the last answer.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

from day import arrivals  # its own folder is where a script looks first

PATIENCE_S = 15.0
TRIES = 2


async def asked(port: int, number: int) -> tuple[int, int]:
    """How often it was asked, and the process that answered; 0: nobody did."""
    for tries in range(1, TRIES + 1):
        try:
            async with asyncio.timeout(PATIENCE_S):
                if pid := await answer(port, number):
                    return tries, pid
        except (OSError, TimeoutError):
            continue
    return TRIES, 0


async def answer(port: int, number: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /{number} HTTP/1.0\r\nHost: shop\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(body.split()[0]) if head.startswith(b"HTTP/1.0 200") and body.endswith(b"\n") else 0
    finally:
        writer.close()


async def request(port: int, number: int) -> None:
    sent_s = time.time()
    tries, pid = await asked(port, number)
    print(f"{sent_s:.6f} {time.time():.6f} {tries} {pid}", flush=True)


async def generate(port: int, day_s: float, midnight_s: float, seed: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    under_way: set[asyncio.Task[None]] = set()
    for number, at_s in enumerate(arrivals(day_s, seed)):
        try:
            async with asyncio.timeout(max(midnight_s + at_s - time.time(), 0.0)):
                await ended.wait()
        except TimeoutError:
            task = asyncio.create_task(request(port, number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            continue
        break
    await asyncio.gather(*under_way)


if __name__ == "__main__":
    asyncio.run(generate(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
