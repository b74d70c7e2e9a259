"""Write a decision: the record and its entry in the history, while no other process decides.

It asks nothing and prints nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress

from telemetry_kit import settings
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import history, notice, policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import atomic, private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import ProjectPaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry_kit.consent.decision import Grant

LOCK = ".telemetry.deciding"
PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.005


@contextmanager
def consent_lock(folder: str, patience: float | None = None) -> Iterator[None]:
    """Hold the lock under which history and record are written together.

    The lock is a file that exists only while it is held. If it cannot be made or locked, the
    decision is written without it, because a lock must never prevent a denial.

    Args:
        folder: the app's folder in the user's config directory; made if it is missing.
        patience: how many seconds to wait for another process; five by default.

    Raises:
        ConsentError: another process has held the lock for longer than that.
        OSError: the folder could not be made.
    """
    private.make_folder(folder)
    path = f"{folder}/{LOCK}"
    fd = acquire(path, PATIENCE_SECONDS if patience is None else patience)
    try:
        yield
    finally:
        if fd is not None:
            release(fd, path)


def acquire(path: str, patience: float) -> int | None:
    """Make and lock the file; returns its descriptor, or None if that is impossible here.

    Raises:
        ConsentError: another process has held the lock for longer than `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        try:
            fd = private.open_own(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            # A reset deleted the folder, and the record needs one, too.
            private.make_folder(os.path.dirname(path))
            if time.monotonic() >= until:
                return None
            continue
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(fd, path):
                return fd
        except BlockingIOError:
            pass
        except OSError:
            # A file system without flock.
            release(fd, path)
            return None
        os.close(fd)
        if time.monotonic() >= until:
            raise ConsentError("another process is writing a decision and does not finish")
        time.sleep(_PAUSE_SECONDS)


def is_at(fd: int, path: str) -> bool:
    """Whether the open file still has this name: its holder may have deleted it."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def release(fd: int, path: str) -> None:
    """Delete, unlock and close the file. The decision is written, so errors are ignored."""
    with suppress(OSError):
        if is_at(fd, path):
            os.unlink(path)
        # A child that another thread forked has the file open, so closing does not unlock it.
        fcntl.flock(fd, fcntl.LOCK_UN)
    with suppress(OSError):
        os.close(fd)


def decide(
    paths: ProjectPaths,
    folder: str,
    decision: str,
    method: str,
    now: float,
    *,
    any_context: bool = False,
    request: ScopeRequest | None = None,
) -> None:
    """Write a decision, with its entry in the history. Call it inside `consent_lock()`.

    Args:
        paths: the project's paths.
        folder: the folder of the consent record.
        decision: `yes` or `no`.
        method: `prompt`, `flag` or `api`.
        now: seconds since the epoch.
        any_context: the grant covers all context keys that the tool declares, now or later.
        request: the extended scope that the user was asked about; None for the whole notice.

    Raises:
        ConsentError: another decision was made since the user was asked; nothing has changed.
        OSError: the decision could not be written. A denial that follows a grant needs no space,
            because it overwrites the grant.
    """
    path = f"{folder}/{policy.RECORD}"
    if request is not None:
        request.check(path)
    everywhere = folder == paths.config
    directory = policy.ALL if everywhere else os.path.basename(folder)
    old, before = read_record(path, directory)
    rendered = consent_decision.render_record(
        decision,
        consent_decision.today(),
        settings.current(),
        any_context=any_context,
        more="" if old is None else consent_decision.unknown_words(old),
        before=before,
    ).decode("ascii")
    line = consent_decision.stamped(rendered, place=directory)
    is_repeated = old is not None and consent_decision.stamped(old, entry="") == line
    if method == "flag" and is_repeated and agrees_with_history(folder):
        return  # the same flag, on the same day and for the same scope
    text = (
        notice.text_sha256(paths, everywhere=everywhere) if request is None else request.text_sha256
    )
    entry = ""
    try:
        # The history comes first, so that each record has its entry.
        entry = history.append(folder, decision, method, now, text)
        atomic.replace(path, consent_decision.stamped(line.decode("ascii"), entry=entry))
    except OSError:
        denial = consent_decision.stamped(line.decode("ascii"), entry=entry)
        if decision != "no" or not deny_without_space(paths, path, denial):
            raise


def deny_without_space(paths: ProjectPaths, path: str, line: bytes) -> bool:
    """Overwrite the record with a denial, which needs no space, or else delete the record.

    Returns:
        Whether recording is off now for all that the denial covers.
    """
    with suppress(OSError):
        atomic.overwrite(path, line)
        return True
    try:
        is_removed = private.remove(path)
    except OSError:
        return False
    private.sync_folder(os.path.dirname(path))
    # Without a record of its own, the project is covered by a grant for all projects.
    for_all = policy.for_all_projects(paths)
    return is_removed and for_all.name != path and for_all.verdict != policy.GRANT


def decline(folder: str, now: float, request: ScopeRequest) -> None:
    """Write the denial of an extended scope. The grant keeps its scope.

    Call it inside `consent_lock()`.

    Args:
        folder: the folder of the consent record.
        now: seconds since the epoch.
        request: the extended scope that the user denied.

    Raises:
        ConsentError: the grant has changed meanwhile; at most the history was written.
        OSError: the denial could not be written.
    """
    path = f"{folder}/{policy.RECORD}"
    request.check(path)
    text, fingerprint = request.text_sha256, request.fingerprint
    entry = history.append(folder, "no", "prompt", now, text, declined=fingerprint)
    # An editor that ignores the lock may have removed the grant, which must not come back.
    request.check(path)
    declined = consent_decision.parse_grant(request.record).with_declined(fingerprint)
    atomic.replace(path, consent_decision.stamped(request.record, declined=declined, entry=entry))


class ScopeRequest:
    """An extended scope that the user is asked about.

    Args:
        app: the app's name.
        record: the line of the grant.
        grant: the scope of the grant.
    """

    __slots__ = ("fingerprint", "record", "text_sha256")

    def __init__(self, app: str, record: str, grant: Grant) -> None:
        now = settings.current()
        self.record = record.strip()
        self.fingerprint = consent_decision.scope_fingerprint(now)
        self.text_sha256 = notice.sha256_of(notice.difference(app, grant.scope_extension(now)))

    def check(self, path: str) -> None:
        """Check that the record has not changed since the user was asked.

        Raises:
            ConsentError: it has changed.
        """
        found = private.read(path, policy.MAX_RECORD_BYTES) or b""
        if found.strip() != self.record.encode("ascii"):
            raise ConsentError("another decision was made meanwhile")


def agrees_with_history(folder: str) -> bool:
    """Whether the current record is the last decision of its history."""
    try:
        return history.disagrees(folder) is None
    except UnsafeFileError:
        return False


def read_record(path: str, directory: str) -> tuple[str | None, Grant | None]:
    """Read the current record, and the grant if it is valid; a damaged record is renamed.

    The damaged file may be the only trace of a decision of the user.

    Args:
        path: the record.
        directory: the name of the project's directories, or `all`.
    """
    try:
        data = private.read(path, policy.MAX_RECORD_BYTES)
    except UnsafeFileError:
        data = b""
    if data is None:
        return None, None
    state = consent_decision.parse_record(data, consent_decision.today())[0]
    if state == "corrupt":
        os.rename(path, f"{path}.damaged-{os.urandom(3).hex()}")
        return None, None
    line = data.decode("ascii")
    is_current = state == "yes" and not policy.mismatch(path, line, directory)
    return line, consent_decision.parse_grant(line) if is_current else None
