"""The microphone at the television: sends what it hears, and does what comes back. It holds the television's state.

`python remote.py one.wav two.wav` speaks to the service at port 8080 and shows the television after each.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tv import TV

from springtide.spec.errors import SpringtideError

PATIENCE_S = 60.0


class Remote:
    """One television, and a connection that is opened anew where the service closed it."""

    def __init__(self, port: int = 8080, host: str = "127.0.0.1", tv: TV | None = None) -> None:
        self.tv = tv or TV(on=True)
        self._connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)

    def hear(self, wav: bytes) -> dict[str, Any]:
        """The service's answer; the television does what it says. SpringtideError: there was none."""
        answer = self._post("/models/voice", {"wav": base64.b64encode(wav).decode(), "tv": asdict(self.tv)})
        self.tv = TV(**answer["output"]["tv"])
        return answer

    def correct(self, answer: dict[str, Any], phrase: str) -> None:
        """Tells the service what was really said."""
        self._post("/feedback", {"id": answer["id"], "correct": phrase})

    def close(self) -> None:
        self._connection.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            found: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise SpringtideError(f"the service did not answer: {type(error).__name__} {error}") from None
        if answer.status != 200:
            raise SpringtideError(f"the service answered {answer.status}: {found.get('error', found)}")
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.wav")
    parser.add_argument("--port", type=int, default=8080)
    said = parser.parse_args()
    remote = Remote(said.port)
    for file in said.files:
        try:
            output = remote.hear(file.read_bytes())["output"]
        except (SpringtideError, OSError) as error:
            print(f"{file}: {error}")
            return 1
        print(f"{file}: {output['command'] or 'not understood'} (heard: {output['text']}). The TV: {remote.tv}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
