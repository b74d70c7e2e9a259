"""A clock, a directory listing and misplaced files for the tests of the writer."""

import os
from pathlib import Path

from telemetry_kit.paths import ProjectPaths

LINE = b'{"schema_version":"1.0","n":1}\n'


class Clock:
    """A clock that advances only when a test sets it."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def log_bytes(home: ProjectPaths) -> bytes:
    """Return the bytes of the active log."""
    return Path(home.log).read_bytes()


def tree(home: ProjectPaths) -> dict[str, bytes | None]:
    """Return the path and the bytes of everything beside and inside the project."""
    base = Path(home.root).parent
    return {
        str(p.relative_to(base)): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in base.rglob("*")
    }


def misplace(kind: str, path: str, outside: Path) -> None:
    """Create a file of this kind at the path of the log or of the project directory."""
    outside.mkdir(exist_ok=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    (outside / "file").write_bytes(b"theirs")
    (outside / "file").chmod(0o600)
    if kind == "link":
        os.symlink(outside / "file", path)
    elif kind == "dangling":
        os.symlink(outside / "nothing", path)
    elif kind == "loop":
        os.symlink(path, path)
    elif kind == "link to a folder":
        os.symlink(outside, path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "hard link":
        os.link(outside / "file", path)
    elif kind == "file":
        Path(path).write_bytes(b"theirs")
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            previous = os.getcwd()
            os.chdir(os.path.dirname(path))
            try:
                listener.bind(os.path.basename(path))
            finally:
                os.chdir(previous)
    else:
        Path(path).write_bytes(b"theirs")
        os.chmod(path, int(kind, 8))
