"""Delete the temporary files of killed processes, after a check that this package made them."""

from __future__ import annotations

import fcntl
import os
import stat
import time

from telemetry_kit.files.atomic import CODE_BYTES, SUFFIX
from telemetry_kit.files.private import SAFE_FLAGS

_HEX = frozenset("0123456789abcdef")


def sweep(folder: str, min_age_seconds: float = 0.0) -> None:
    """Delete the temporary files in a folder whose writers have ended.

    Only files that `atomic.NewFile` creates are deleted: a regular file with a name of its form,
    of this user, closed to other users, and without a second name except that of its target. A
    file that is being written is locked.

    Args:
        folder: the folder.
        min_age_seconds: a file that was changed since then stays.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        target = target_of(name)
        if target:
            _sweep_file(f"{folder}/{name}", f"{folder}/{target}", min_age_seconds)


def _sweep_file(path: str, target: str, min_age_seconds: float) -> None:
    try:
        fd = os.open(path, os.O_RDWR | SAFE_FLAGS)
    except OSError:
        return
    try:
        st = os.fstat(fd)
        is_own = st.st_mode & ~0o600 == stat.S_IFREG and st.st_uid == os.geteuid()
        is_old = time.time() - st.st_mtime >= min_age_seconds
        if is_own and is_old and (st.st_nlink == 1 or _has_name(st, target)):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(st, path):
                os.unlink(path)
    except OSError:
        return
    finally:
        os.close(fd)


def _has_name(st: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(st, os.lstat(path))
    except FileNotFoundError:
        return False


def target_of(temporary: str) -> str:
    """Return the target's name in a temporary name, or an empty string for any other name."""
    name, dash, code = temporary[1:].removesuffix(SUFFIX).rpartition("-")
    is_ours = temporary[:1] == "." and temporary.endswith(SUFFIX) and name and dash
    return name if is_ours and len(code) == CODE_BYTES * 2 and _HEX.issuperset(code) else ""
