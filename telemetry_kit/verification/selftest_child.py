"""The child process of `selftest`: record 1,000 events and count what the interpreter reports.

It runs in a home and a project of its own, and does not read the files of the caller.
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
    *("subprocess.", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn"),
    *("os.system", "os.startfile", "pty.spawn"),
)
THREADS = ("_thread.start_new_thread", "_thread.start_joinable_thread")
CHANGES = (
    *("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"),
    *("os.symlink", "os.truncate", "os.utime", "shutil."),
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class Observer:
    """Counts of what the interpreter did since `start()`.

    An audit hook (PEP 578) cannot be removed, so `on` ends the counting.
    """

    def __init__(self) -> None:
        self.on = False
        self.counts = {"sockets": 0, "subprocesses": 0, "threads": 0}
        self.paths: set[str] = set()

    def start(self) -> None:
        """Install the audit hook, and count threads, which not every interpreter reports to it."""
        self.on = True
        sys.addaudithook(self.observe)
        start = _thread.start_new_thread

        def counted(*args: Any, **kwargs: Any) -> int:
            self.counts["threads"] += self.on
            return start(*args, **kwargs)

        for module in ("_thread", "threading"):
            for name in ("start_new_thread", "_start_new_thread"):
                if hasattr(sys.modules.get(module), name):
                    setattr(sys.modules[module], name, counted)

    def observe(self, event: str, args: tuple[Any, ...]) -> None:
        """Count one audit event, or note the path that it changes."""
        if not self.on:
            return
        if event.startswith(NETWORK):
            self.counts["sockets"] += 1
        elif event.startswith(PROCESSES):
            self.counts["subprocesses"] += 1
        elif event in THREADS:
            self.counts["threads"] += 1
        elif event == "open":
            # The parent process turned off the writing of bytecode.
            if len(args) > 2 and isinstance(args[2], int) and args[2] & _WRITES:
                self.paths.add(
                    os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else str(args[0])
                )
        elif event.startswith(CHANGES):
            self.paths |= {os.fsdecode(a) for a in args[:2] if isinstance(a, str | bytes)}


def main(report: str, app: str) -> None:
    """Record through each way of the public API, and write the counts to a file.

    Args:
        report: the file to write, after the observation.
        app: the name of the app that records.
    """
    observer = Observer()
    observer.start()
    # deferred: the observer also counts what their import does
    from telemetry_kit import _api, settings
    from telemetry_kit.consent import changes
    from telemetry_kit.instrumentation import sessions, tracks
    from telemetry_kit.schema import catalog

    settings.configure(app=app, agents=["backend-engineer"], commands=["/self:test"])
    changes.enable_telemetry()

    @tracks.tracks("agent.invoked", agent="backend-engineer")
    def work(number: int) -> int:
        return number

    kinds = list(catalog.EVENTS)
    # The session is one event, each round three.
    with sessions.role_session("dev", command="/self:test"):
        for number in range((EVENTS - 1) // 3):
            work(number)
            kind = kinds[number % len(kinds)]
            _api.track_role_event(kind, role="qa", agent=f"undeclared-{number}")
    observer.on = False
    with open(report, "w", encoding="utf-8") as file:
        json.dump({**observer.counts, "paths": sorted(observer.paths)}, file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
