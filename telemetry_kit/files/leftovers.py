"""Temporary files that a killed process left, and the proof that they are ours."""

from __future__ import annotations

import fcntl
import os
import stat
import time

from telemetry_kit.files.private import CODE_BYTES, SUFFIX

_HEX = frozenset("0123456789abcdef")


def sweep(folder: str, min_age_seconds: float = 0.0) -> None:
    """Delete temporary files of ours whose writer is gone; one that is being written is locked.

    Only what `private` and `NewFile` make is deleted: a regular file with a name of their form,
    of this user, closed to others, with no second name but the one it was made for.

    Args:
        folder: where they are.
        min_age_seconds: a file that was written to since then stays.
    """
    try:
        names = [name for name in os.listdir(folder) if _named_for(name)]
    except OSError:
        return
    for name in names:
        _sweep_one(folder, name, min_age_seconds)


def _sweep_one(folder: str, name: str, min_age_seconds: float) -> None:
    path = f"{folder}/{name}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        st = os.fstat(fd)
        ours = st.st_mode & ~0o600 == stat.S_IFREG and st.st_uid == os.geteuid()
        is_old = time.time() - st.st_mtime >= min_age_seconds
        if ours and is_old and (st.st_nlink == 1 or _is_at(st, f"{folder}/{_named_for(name)}")):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(st, path):
                os.unlink(path)
    except OSError:
        return
    finally:
        os.close(fd)


def _is_at(st: os.stat_result, path: str) -> bool:
    """Whether a file is the one of this name."""
    try:
        return os.path.samestat(st, os.lstat(path))
    except FileNotFoundError:
        return False


def _named_for(temporary: str) -> str:
    """The name of the file that a temporary one was made for; empty where it is none of ours."""
    name, dash, code = temporary[1:].removesuffix(SUFFIX).rpartition("-")
    ours = temporary[:1] == "." and temporary.endswith(SUFFIX) and name and dash
    return name if ours and len(code) == CODE_BYTES * 2 and _HEX.issuperset(code) else ""
