"""A page that follows a training: a small server, for the browser on the same machine."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

from . import markup
from .pictures import spaced

_HOST = "127.0.0.1"  # no other machine can connect
_POINTS = 1000  # epochs in a chart; of more, these are evenly spaced
_PATIENCE = 2.0  # seconds for the page to fetch the last epochs


class Live:
    """Serves a page at `address` until `close`, in threads that do not touch the training and do not keep the program alive.

    title: of the page. port: 0 for a free one. OSError: the port is in use. Only GET is answered, and only for the address itself: a page
    of another site whose name leads to this machine (DNS rebinding) gets an error.
    """

    def __init__(self, title: str, port: int = 0) -> None:
        self._server = ThreadingHTTPServer((_HOST, port), _Answer)
        self._server.live = self  # type: ignore[attr-defined]
        port = self._server.server_address[1]
        self.address = f"http://{_HOST}:{port}/"
        self.hosts = (f"{_HOST}:{port}", f"localhost:{port}")
        files = Path(__file__).parent
        page, style = ((files / name).read_text("utf-8") for name in ("live.html", "page.css"))
        self.page = page.replace("STYLE", style, 1).replace("TITLE", markup.safe(title), 1).encode()
        self._place, self._records, self._done = "", list[Mapping[str, float]](), False
        self._asked, self._told = -math.inf, Event()
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def begin(self, place: str) -> None:
        """A network begins. place: which one."""
        self._place, self._records = place, []

    def add(self, record: Mapping[str, float]) -> None:
        """A callback of fit."""
        self._records.append(record)

    def history(self) -> bytes:
        """What the page draws, as JSON; called by the threads of the server."""
        records, is_last = list(self._records), self._done
        shown = [records[i] for i in spaced(len(records), _POINTS)]
        names = [name for name in (records[-1] if records else ()) if name not in ("epoch", "steps")]
        history = {name: [_known(record.get(name, math.nan)) for record in shown] for name in names}
        self._asked = time.monotonic()
        if is_last:
            self._told.set()
        return json.dumps({"place": self._place, "epochs": len(records), "history": history, "done": is_last}).encode()

    def close(self) -> None:
        """Ends the server, after a page that is open has got the last epochs."""
        self._done = True
        if time.monotonic() - self._asked < _PATIENCE:
            self._told.wait(_PATIENCE)
        self._server.shutdown()
        self._server.server_close()


def _known(value: float) -> float | None:
    """A number that JSON has."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


class _Answer(BaseHTTPRequestHandler):
    """The answer to one request."""

    timeout = 10  # seconds for a request to arrive

    def do_GET(self) -> None:  # the name is http.server's
        live: Live = self.server.live  # type: ignore[attr-defined]
        if self.headers.get("Host") not in live.hosts:
            self.send_error(403)
        elif self.path == "/":
            self._send("text/html; charset=utf-8", live.page)
        elif self.path == "/history.json":
            self._send("application/json", live.history())
        else:
            self.send_error(404)

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **_HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'",
}
