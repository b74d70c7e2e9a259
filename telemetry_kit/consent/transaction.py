"""A decision as a transaction: the record and its entry in the history, one at a time.

It asks nothing and prints nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager

from telemetry_kit import settings
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import history, notice, policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import private
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
    """Decide while no other process does: history and record stay two halves of one thing.

    The lock is a file that is there only while it is held. Where it cannot be made or locked, it
    goes on without: a lock must never keep anybody from saying no.

    Args:
        folder: the app's folder in the user's config directory; made if need be.
        patience: how many seconds to wait for another process; five by default.

    Raises:
        ConsentError: another process has held it for longer than that.
        OSError: the folder could not be made.
    """
    private.make_folder(folder)
    path = f"{folder}/{LOCK}"
    fd = _acquired(path, PATIENCE_SECONDS if patience is None else patience)
    try:
        yield
    finally:
        if fd is not None:
            _release(fd, path)


def _acquired(path: str, patience: float) -> int | None:
    until = time.monotonic() + patience
    while True:
        try:
            fd = private.open_for_writing(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            # A reset took the folder away: without it there is nothing to lock, nor to write to.
            private.make_folder(os.path.dirname(path))
            if time.monotonic() >= until:
                return None
            continue
        except OSError:
            return None
        try:
            if _is_locked(fd) and _is_at(fd, path):
                return fd
        except OSError:
            # A file system without flock.
            _release(fd, path)
            return None
        os.close(fd)
        if time.monotonic() >= until:
            raise ConsentError("another process is writing a decision and does not finish")
        time.sleep(_PAUSE_SECONDS)


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    """Whether the file is still the one of this name, and not one that its holder deleted."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _release(fd: int, path: str) -> None:
    try:
        if _is_at(fd, path):
            os.unlink(path)
        # Not by closing alone: a child that another thread forked has it open as well.
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        return
    finally:
        _close(fd)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # what was decided is on file, and must not be called undecided


def decide(
    home: ProjectPaths,
    folder: str,
    decision: str,
    method: str,
    now: float,
    *,
    any_context: bool = False,
    request: ScopeRequest | None = None,
) -> None:
    """Put a decision in force, with its entry in the history. Call it inside `consent_lock()`.

    Args:
        home: the project's places.
        folder: where the record is.
        decision: `yes` or `no`.
        method: `prompt`, `flag` or `api`.
        now: seconds since the epoch.
        any_context: whatever context keys the tool declares were grant.
        request: the widening that was asked about; None for the whole notice.

    Raises:
        ConsentError: what was asked about is no longer in force; nothing was decided.
        OSError: it could not be written. A denial needs no space: where a grant stands, it is
            overwritten in place.
    """
    path = f"{folder}/{policy.RECORD}"
    if request is not None:
        request.check(path)
    place = policy.ALL if folder == home.config else os.path.basename(folder)
    old, before = _in_force(path, place)
    more = "" if old is None else consent_decision.unknown_words(old)
    line = consent_decision.render_record(
        decision,
        consent_decision.today(),
        settings.current(),
        any_context=any_context,
        more=more,
        before=before,
    )
    line = consent_decision.stamped(line.decode("ascii"), place=place)
    again = old is not None and consent_decision.stamped(old, entry="") == line
    if method == "flag" and again and _is_settled(folder):
        return  # a host's --telemetry, said again on the same day and about the same
    # History first: a decision in force always has its entry.
    everywhere = folder == home.config
    text = (
        notice.text_sha256(home, everywhere=everywhere) if request is None else request.text_sha256
    )
    entry = ""
    try:
        entry = history.append(folder, decision, method, now, text)
        private.replace(path, consent_decision.stamped(line.decode("ascii"), entry=entry))
    except OSError:
        denial = consent_decision.stamped(line.decode("ascii"), entry=entry)
        if decision != "no" or not _denied_without_space(home, path, denial):
            raise


def _denied_without_space(home: ProjectPaths, path: str, line: bytes) -> bool:
    """Write a denial over the record, which needs no space; where that fails, delete a grant.

    Returns:
        Whether recording is off now where the denial is meant to hold.
    """
    try:
        private.overwrite(path, line)
        return True
    except OSError:
        pass  # the record can be deleted yet, perhaps
    try:
        removed = private.remove(path)
    except OSError:
        return False
    private.sync_folder(os.path.dirname(path))
    # Without a denial, a grant of the other kind goes on.
    everywhere = policy.for_all_projects(home)
    return removed and everywhere.name != path and everywhere.verdict != policy.GRANT


def decline(folder: str, now: float, request: ScopeRequest) -> None:
    """Keep the yes in force as it is, and write down the no to what is wider.

    Call it inside `consent_lock()`.

    Args:
        folder: where the record of the yes is.
        now: seconds since the epoch.
        request: the widening that was declined.

    Raises:
        ConsentError: the yes is no longer in force; nothing was decided, or nothing but the entry
            was written.
        OSError: it could not be written.
    """
    path = f"{folder}/{policy.RECORD}"
    request.check(path)
    text, fingerprint = request.text_sha256, request.fingerprint
    entry = history.append(folder, "no", "prompt", now, text, declined=fingerprint)
    # Somebody's editor knows of no lock: what is gone must not come back.
    request.check(path)
    declined = consent_decision.parse_grant(request.record).with_declined(fingerprint)
    private.replace(path, consent_decision.stamped(request.record, declined=declined, entry=entry))


class ScopeRequest:
    """A widening as it was put to the user.

    Args:
        app: the app's name.
        record: the yes that was in force then, as its line.
        grant: what that yes covers.
    """

    __slots__ = ("fingerprint", "record", "text_sha256")

    def __init__(self, app: str, record: str, grant: Grant) -> None:
        now = settings.current()
        self.record = record.strip()
        self.fingerprint = consent_decision.scope_fingerprint(now)
        self.text_sha256 = notice.sha256_of(notice.difference(app, grant.scope_extension(now)))

    def check(self, path: str) -> None:
        """Refuse when another decision was made while the question stood there.

        Raises:
            ConsentError: the record is not the one that was in force.
        """
        found = private.read(path, policy.MAX_RECORD_BYTES) or b""
        if found.strip() != self.record.encode("ascii"):
            raise ConsentError("another decision was made meanwhile")


def _is_settled(folder: str) -> bool:
    try:
        return history.disagrees(folder) is None
    except UnsafeFileError:
        return False


def _in_force(path: str, place: str) -> tuple[str | None, Grant | None]:
    """The record that is there and, for a yes, what it covers; a damaged one is set aside."""
    try:
        data = private.read(path, policy.MAX_RECORD_BYTES)
    except UnsafeFileError:
        _set_aside(path)
        return None, None
    if data is None:
        return None, None
    state = consent_decision.parse_record(data, consent_decision.today())[0]
    if state == "corrupt":
        _set_aside(path)
        return None, None
    line = data.decode("ascii")
    stands = state == "yes" and not policy.mismatch(path, line, place)
    return line, consent_decision.parse_grant(line) if stands else None


def _set_aside(path: str) -> None:
    # It may be the only trace of what somebody decided: keep it, under another name.
    os.rename(path, f"{path}.damaged-{os.urandom(3).hex()}")
