"""`python -m springtide.serve.server`: what `tide serve` and the pool start."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from springtide.spec.errors import SpringtideError, UserError


def parser() -> argparse.ArgumentParser:
    """The words of a server."""
    found = argparse.ArgumentParser(prog="python -m springtide.serve.server", allow_abbrev=False)
    found.add_argument("--model", action="append", required=True, help="a model of the registry; may be repeated")
    found.add_argument("--registry", type=Path, help="its folder [default: TIDE_HOME/models]")
    found.add_argument("--host", default="127.0.0.1")
    found.add_argument("--port", type=int, help="where no socket is handed over")
    found.add_argument("--shared-port", action="store_true", help="other servers may listen on it too")
    found.add_argument("--admin", type=Path, help="the path of the admin socket that is handed over")
    found.add_argument("--threads", type=int, default=1, help="of torch, for each model")
    found.add_argument("--max-batch", type=int, default=64, help="rows that are computed together")
    found.add_argument("--max-queue", type=int, default=512, help="requests that may wait, of each model")
    found.add_argument("--max-body-bytes", type=int, default=16 << 20)
    found.add_argument("--requests", help="URL of the stream that requests and feedback are added to")
    found.add_argument("--sample", type=float, default=1.0, help="the share of requests that is kept")
    found.add_argument("--redact", help="MODULE:FUNCTION that returns the record to keep, or None")
    return found


def main(words: list[str] | None = None) -> int:
    """Its sentence goes to standard error, its exit code says which kind it was."""
    said = parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        for name in ("threads", "max_batch", "max_queue", "max_body_bytes"):
            if getattr(said, name) < 1:
                raise UserError(f"--{name.replace('_', '-')}: {getattr(said, name)} is too little; write 1 or more")
        if not 0 <= said.sample <= 1:
            raise UserError(f"--sample: {said.sample:g} is no share; write a number from 0 to 1")
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        _serve(said)
    except SpringtideError as error:
        print(f"tide: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"tide: {error.filename or 'this machine'}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    return 0


def _serve(said: argparse.Namespace) -> None:
    from springtide.serve.server.process import Options, serve  # imports torch
    from springtide.serve.server.queue import Limits

    options = Options(
        models=tuple(dict.fromkeys(said.model)), registry=said.registry, host=said.host, port=said.port,
        shared_port=said.shared_port, admin=said.admin, threads=said.threads,
        limits=Limits(said.max_batch, said.max_queue), most_bytes=said.max_body_bytes, requests=said.requests,
        sample=said.sample, redact=said.redact,
    )  # fmt: skip
    asyncio.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
