"""Record 1,000 events, and watch every operation that the interpreter reports.

It runs as a process of its own, in its own home and project. The caller's files are not read.
"""

from __future__ import annotations

import _thread
import json
import os
import sys
from typing import Any

EVENTS = 1_000
NETWORK = ("socket.", "ssl.", "ftplib.", "http.", "imaplib.", "smtplib.", "urllib.", "poplib.")
PROCESSES = (
    "subprocess.",
    "os.fork",
    "os.forkpty",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.startfile",
    "pty.spawn",
)
THREADS = ("_thread.start_new_thread", "_thread.start_joinable_thread")
CHANGES = (
    "os.chmod",
    "os.chown",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "shutil.",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class Witness:
    """What was seen since `watch()`; an audit hook (PEP 578) cannot be taken away again."""

    def __init__(self) -> None:
        self.on = False
        self.counts = {"sockets": 0, "subprocesses": 0, "threads": 0}
        self.paths: set[str] = set()

    def watch(self) -> None:
        """Begin."""
        self.on = True
        sys.addaudithook(self._see)
        # Not every interpreter tells its hooks of a thread.
        start = _thread.start_new_thread

        def counted(*args: Any, **kwargs: Any) -> int:
            self.counts["threads"] += self.on
            return start(*args, **kwargs)

        for module in ("_thread", "threading"):
            for name in ("start_new_thread", "_start_new_thread"):
                if hasattr(sys.modules.get(module), name):
                    setattr(sys.modules[module], name, counted)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event.startswith(NETWORK):
            self.counts["sockets"] += 1
        elif event.startswith(PROCESSES):
            self.counts["subprocesses"] += 1
        elif event in THREADS:
            self.counts["threads"] += 1
        elif event == "open":
            path, _, flags = (*args, None, None)[:3]
            # Bytecode belongs to the interpreter, which was told not to write any.
            if isinstance(flags, int) and flags & _WRITES:
                self.paths.add(_text(path))
        elif event.startswith(CHANGES):
            self.paths |= {_text(a) for a in args[:2] if isinstance(a, str | bytes)}


def _text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes) else str(path)


def main(report: str, app: str) -> None:
    """Record through every door, and write down what was seen.

    Args:
        report: the file to write to, when the watch is over.
        app: the app name to record under.
    """
    witness = Witness()
    witness.watch()
    # deferred: what their loading does is a part of what is watched
    from telemetry_kit import _api, settings
    from telemetry_kit.consent import changes
    from telemetry_kit.instrumentation import sessions, tracks
    from telemetry_kit.schema import catalog

    settings.configure(app=app, agents=["backend-engineer"], commands=["/self:test"])
    changes.enable_telemetry()

    @tracks.tracks("agent.invoked", agent="backend-engineer")
    def work(number: int) -> int:
        return number

    recorded = 0
    with sessions.role_session("dev", command="/self:test"):
        recorded += 1
        while recorded + 3 <= EVENTS:
            work(recorded)
            kind = list(catalog.EVENTS)[recorded % len(catalog.EVENTS)]
            _api.track_role_event(kind, role="qa", agent=f"somebody-{recorded}")
            recorded += 3
        while recorded < EVENTS:
            _api.track_role_event("role.selected", role="pm")
            recorded += 1
    witness.on = False
    with open(report, "w", encoding="utf-8") as file:
        json.dump({**witness.counts, "paths": sorted(witness.paths)}, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
