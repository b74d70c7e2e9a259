"""`telemetry-kit doctor`: check everything, and report or repair each problem."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from errno import EPERM

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import CommandError, print_line, safe
from telemetry_kit.consent import changes, history, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.errors import ConsentError, KeyUnavailableError
from telemetry_kit.files import git, private
from telemetry_kit.instrumentation import registrations
from telemetry_kit.paths import Home
from telemetry_kit.privacy import keys, projects
from telemetry_kit.storage import compression, limits, maintenance, rotation, version_control
from telemetry_kit.storage.segments import (
    ACTIVE,
    ARCHIVE,
    SEALED,
    Problems,
    Report,
    Segment,
    Source,
    snapshot,
)

OK, NOTE, BAD = "ok", "note", "bad"
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = _LOOK | os.O_DIRECTORY
_MAX_LOCKS_BYTES = 1 << 20
Mend = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        name: what.
        state: `ok`, `note` or `bad`.
        says: one sentence.
        fixed: it was bad, and is in order now.
    """

    name: str
    state: str
    says: str
    fixed: bool = False


def run(project: str | None, fix: bool, as_json: bool) -> None:
    """Check that everything is in order; exit with 1 when something is not.

    Raises:
        CommandError: something is wrong and was not mended.
    """
    home = changes.home_of(project)
    findings = list(examine(home, fix))
    if as_json:
        print_line(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            state = "fixed" if finding.fixed else finding.state
            print_line(f"{state:<5}  {finding.name:<10}  {safe(finding.says)}")
    bad = [f for f in findings if f.state == BAD and not f.fixed]
    if bad:
        hint = "" if fix else "; doctor --fix mends what it can"
        raise CommandError(f"{len(bad)} of {len(findings)} checks failed{hint}")


def examine(home: Home, fix: bool = False) -> Iterator[Finding]:
    """All findings, in the order in which an event meets them.

    Args:
        home: the places to look at.
        fix: mend what safely can be, as it is found; it is looked at again before it counts.
    """
    decision = policy.decide(home, runtime.world.environ, every_file=True)
    yield Finding("consent", OK if decision.allowed else NOTE, decision.rule.says)
    yield from (Finding("history", BAD, wrong) for wrong in history.trouble(home))
    yield _key(home, decision.allowed, fix)
    stranger = _stranger(home)
    if stranger is not None:
        # Nothing in it is ours to look at, or to mend.
        yield stranger
        return
    yield from _folder(home, fix)
    yield _lock(home, fix)
    yield _ignored(home, fix)
    problems = Problems()
    with snapshot(home, problems) as sources:
        segments = [source.segment for source in sources]
    yield _lease(home, segments)
    yield from _segments(home, segments, fix)
    yield from (Finding("segments", BAD, told) for told in problems.sentences())
    yield from _leftovers(home, fix)
    yield _writable(home)
    yield _last_error(home)
    yield _size(home)
    yield _retention(home)
    yield from _clock(segments)
    yield from (Finding("decorators", NOTE, says) for says in registrations.not_called())


# -- to see and to mend ------------------------------------------------------------------------


def _checked(
    name: str, look: Callable[[], str], mend: Mend | None, fix: bool, well: str
) -> Finding:
    """A finding: what `look` says is wrong, mended where it can be, and looked at again."""
    wrong = look()
    if not wrong:
        return Finding(name, OK, well)
    if not fix or mend is None:
        return Finding(name, BAD, wrong)
    try:
        mend()
    except OSError as error:
        return Finding(name, BAD, f"{wrong}; could not be mended: {private.explain(error)}")
    left = look()
    return Finding(name, BAD, left or wrong, fixed=not left)


def _mode(path: str, right: Callable[[int], int], flags: int = _LOOK) -> Mend:
    """Sets the mode of a plain file, or folder, of ours; never through a link or a second name."""

    def mend() -> None:
        try:
            fd = os.open(path, flags)
        except PermissionError:
            # Its owner cannot even open it, so by its name.
            if not rotation.is_plain(os.lstat(path)):
                raise
            private.set_mode(path, right(0))
            return
        try:
            st = os.fstat(fd)
            if not (rotation.is_plain(st) or (stat.S_ISDIR(st.st_mode) and rotation.is_mine(fd))):
                raise PermissionError(EPERM, "not ours", path)
            os.fchmod(fd, right(st.st_mode & 0o777))
        finally:
            os.close(fd)

    return mend


def _bits(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode & 0o777
    except OSError:
        return None


# -- one thing each ----------------------------------------------------------------------------


def _key(home: Home, allowed: bool, fix: bool) -> Finding:
    try:
        place = projects.place_of(home)
    except ConsentError as error:
        return Finding("key", BAD if allowed else NOTE, str(error))
    path = "" if place is None else keys.key_path(home, place)
    if not path or not os.path.isdir(os.path.dirname(path)):
        return Finding("key", NOTE, "none yet: the first event, or enable, makes it")
    inside = os.path.commonpath([os.path.realpath(path), home.root]) == home.root
    if inside and home.root != "/":
        return Finding("key", BAD, f"{path} is inside the project: it would travel with it")
    told = _key_says(path)
    if not told:
        key = keys.load(path)
        return Finding("key", OK, f"epoch {key.epoch}, of {key.born}")
    if not allowed:
        return Finding("key", NOTE, told)
    bits = _bits(path)
    if bits is None:
        return _checked("key", lambda: _key_says(path), lambda: _make_key(path), fix, "")
    if bits & 0o077:
        return _checked("key", lambda: _key_says(path), _mode(path, lambda _: 0o600), fix, "")
    if private.remedy(path):
        return Finding("key", BAD, told)  # which says so
    return Finding("key", BAD, f"{told}: clear deletes the events that need it and makes a new one")


def _key_says(path: str) -> str:
    try:
        keys.load(path)
    except KeyUnavailableError as error:
        return str(error)
    return ""


def _make_key(path: str) -> None:
    keys.create(path, runtime.world.now())


def _stranger(home: Home) -> Finding | None:
    """What stands in the folder's place and is not ours."""
    try:
        st = os.lstat(home.folder)
    except OSError:
        return None
    if not stat.S_ISDIR(st.st_mode):
        return Finding("folder", BAD, f"{home.folder} is not a folder: move it away")
    if st.st_uid != os.geteuid():
        return Finding("folder", BAD, f"{home.folder} belongs to another user")
    return None


def _folder(home: Home, fix: bool) -> Iterator[Finding]:
    bits = _bits(home.folder)
    if bits is None:
        yield Finding("folder", NOTE, f"{home.folder} is made by the first event")
        return

    def look() -> str:
        bits = _bits(home.folder) or 0
        if bits & 0o022:
            return f"{home.folder} can be written by others (mode {bits:04o})"
        if bits & 0o700 != 0o700:
            return f"{home.folder} is closed to you (mode {bits:04o})"
        return ""

    mend = _mode(home.folder, lambda bits: (bits | 0o700) & ~0o022, _FOLDER)
    yield _checked("folder", look, mend, fix, f"{home.folder}, mode {bits:04o}")
    for wrong in rotation.trouble(home):
        if "instead of 0600" in wrong:
            right = _mode(home.log, lambda _: 0o600)
            yield _checked("log", lambda: _trouble_with_the_log(home), right, fix, "")
        else:
            yield Finding("log", BAD, wrong)
    rollup = f"{home.folder}/{rotation.ROLLUP}"
    if (_bits(rollup) or 0) & 0o077:
        yield _private("roll-up", rollup, fix)


def _trouble_with_the_log(home: Home) -> str:
    return next((wrong for wrong in rotation.trouble(home) if "instead of 0600" in wrong), "")


def _private(name: str, path: str, fix: bool, right: int = 0o600) -> Finding:
    def look() -> str:
        bits = _bits(path) or 0
        return f"{path} is open to others (mode {bits:04o})" if bits & 0o077 else ""

    return _checked(name, look, _mode(path, lambda _: right), fix, path)


def _lock(home: Home, fix: bool) -> Finding:
    """Whether maintenance can have its lock; without it nothing is sealed, cleared or packed."""

    def look() -> str:
        try:
            st = os.lstat(home.lock)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{home.lock} cannot be looked at ({private.name_of(error)})"
        if not rotation.is_plain(st):
            return f"{home.lock} is not a plain file of yours: move it away"
        if st.st_mode & 0o777 != 0o600:
            return f"{home.lock} has mode {st.st_mode & 0o777:04o} instead of 0600"
        return ""

    found = _checked("lock", look, _mode(home.lock, lambda _: 0o600), fix, "free")
    without_locks = rotation.without_locks(home)
    if found.state == OK and without_locks:
        return Finding("lock", NOTE, without_locks)
    holder = _holders(home.lock) if found.state == OK else ""
    if holder:
        says = f"held by {holder}: nothing is sealed, packed or deleted until it ends"
        return Finding("lock", NOTE, says)
    return found


def _holders(path: str) -> str:
    """Which process holds a lock on a file, as far as the system tells; empty when none does."""
    found = _locks().get(_inode(path), "")
    return f"process {found}" if found not in ("", "0") else "a process" if found else ""


def _inode(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return -1


def _locks() -> dict[int, str]:
    """The process that holds a flock, by inode: asking the lock itself could refuse a writer."""
    found: dict[int, str] = {}
    try:
        listed = private.read_regular("/proc/locks", _MAX_LOCKS_BYTES)
        for line in listed.decode("ascii", "replace").splitlines():
            words = line.split()
            # `1: FLOCK  ADVISORY  READ 123 08:01:4711 0 EOF`; `->` marks one that waits.
            if len(words) > 5 and words[1] == "FLOCK":
                found[int(words[5].rpartition(":")[2])] = words[4]
    except (OSError, ValueError):
        return found
    return found


def _ignored(home: Home, fix: bool) -> Finding:
    if not os.path.isdir(home.folder):
        return Finding("git", NOTE, "nothing is stored yet")
    inside = _git(home, "rev-parse", "--is-inside-work-tree")
    if inside == 128:
        return Finding("git", NOTE, "git finds no repository of yours here")
    if inside != 0:
        return Finding("git", NOTE, "git cannot be asked whether the events are ignored")
    tracked = _git(home, "ls-files", "--error-unmatch", "--", f":(literal){home.log}")
    if tracked == 0:
        told = f"{home.log} is under version control: git rm --cached takes it out"
        return Finding("git", BAD, told)

    def look() -> str:
        code = _git(home, "check-ignore", "-q", "--no-index", home.log)
        if code in (0, 1):
            return f"{home.log} is not ignored by git" * code
        return f"git cannot tell whether {home.log} is ignored"

    def mend() -> None:
        try:
            version_control.ensure(home)
        except ConsentError:
            return  # the second look says so

    return _checked("git", look, mend, fix, "the events are ignored")


def _git(home: Home, *words: str) -> int:
    """The exit code of git in the project; -1 where it cannot be asked."""
    answer = git.ask(home.root, *words, environ=runtime.world.environ)
    return -1 if answer is None else answer.code


def _lease(home: Home, segments: list[Segment]) -> Finding:
    locks = _locks()
    plain = [s for s in segments if s.kind in (ACTIVE, SEALED)]
    held = [s.name for s in plain if s.identity[1] in locks]
    says = f"held by a running program: {', '.join(held)}" if held else "no program is writing"
    return Finding("lease", OK, says)


def _segments(home: Home, segments: list[Segment], fix: bool) -> Iterator[Finding]:
    for kind in (SEALED, ARCHIVE):
        these = [s for s in segments if s.kind == kind]
        size = sum(s.size_bytes for s in these)
        yield Finding(kind, OK, f"{len(these)} segments, {size} bytes")
        for segment in these:
            path = f"{home.folder}/{segment.name}"
            if (_bits(path) or 0) & 0o077:
                yield _private(kind, path, fix, rotation.SEALED_MODE if kind == SEALED else 0o600)
            wrong = compression.obstacle(segment.name) or _damage(home, segment)
            if wrong:
                yield Finding(kind, BAD, f"{path}: {wrong}")


def _damage(home: Home, segment: Segment) -> str:
    """Why an archive cannot be read to its end, or an empty string when it can."""
    if segment.kind != ARCHIVE:
        return ""
    report = Report()
    folder = os.open(home.folder, _FOLDER)
    try:
        for _ in Source(segment, folder, None).chunks(report):
            pass
    finally:
        os.close(folder)
    return report.stopped


def _leftovers(home: Home, fix: bool) -> Iterator[Finding]:
    def look() -> str:
        names = _temporary(home)
        return f"{len(names)} temporary files: the next command deletes them" if names else ""

    def mend() -> None:
        maintenance.maintain(home, changes.retention_days(home), consent_decision.today())

    files = _temporary(home)
    strange = [name for name in _temporary(home, all_kinds=True) if name not in files]
    for name in strange:
        yield Finding("leftovers", BAD, f"{home.folder}/{name} is not a file: move it away")
    found = _checked("leftovers", look, mend, fix, "none")
    # They are in nobody's way.
    yield found if found.fixed or found.state == OK else Finding("leftovers", NOTE, found.says)


def _temporary(home: Home, all_kinds: bool = False) -> list[str]:
    try:
        with os.scandir(home.folder) as entries:
            return [
                entry.name
                for entry in entries
                if rotation.TEMPORARY.fullmatch(entry.name)
                and (all_kinds or not entry.is_dir(follow_symlinks=False))
            ]
    except OSError:
        return []


def _writable(home: Home) -> Finding:
    """What a writer would meet: the breaker of a running one opens for the same reasons."""
    troubles = rotation.trouble(home)
    if troubles:
        return Finding("breaker", BAD, f"would open: {troubles[0]}")
    return Finding("breaker", OK, "closed: a line can be written")


def _last_error(home: Home) -> Finding:
    """What a program could last not do here; it was told nothing of it."""
    try:
        place = projects.place_of(home)
        path = "" if place is None else keys.error_path(home, place)
        kept = private.read(path, 100) if path else None
    except (ConsentError, private.UnsafeFileError) as error:
        return Finding("last error", NOTE, str(error))
    if not kept:
        return Finding("last error", OK, "none")
    day, _, name = kept.decode("ascii", "replace").strip().partition(" ")
    return Finding("last error", NOTE, f"{name}, on {day}: an event was not recorded")


def _size(home: Home) -> Finding:
    files, size = rotation.extent(home)
    most = limits.MAX_BYTES
    says = f"{size} bytes in {files} files, of at most {most}"
    if size > most // 10 * 9:
        return Finding("size", NOTE, f"{says}: the oldest go first")
    return Finding("size", OK, says)


def _retention(home: Home) -> Finding:
    days = changes.retention_days(home)
    oldest = maintenance.oldest_day(home)
    if oldest is None:
        return Finding("retention", OK, f"{days} days; nothing is stored")
    term = maintenance.term(home, days, consent_decision.today())
    if term.is_skipped and oldest < term.oldest:
        says = f"lines of {oldest} stay, because no archive is of the 400 days before {term.today}"
        return Finding(
            "retention", NOTE, f"{days} days; {says}: clear --before {term.oldest} deletes them"
        )
    if term.over(oldest):
        when = "go with the next command" if policy.is_decided(home) else "stay: nothing is decided"
        return Finding("retention", NOTE, f"{days} days; lines of {oldest} {when}")
    return Finding("retention", OK, f"{days} days; the oldest line is of {oldest}")


def _clock(segments: list[Segment]) -> Iterator[Finding]:
    """Whether a clock was ahead once: lines of a day to come stay until their time is over."""
    days = [m[1] for m in (rotation.SEGMENT.fullmatch(s.name) for s in segments) if m]
    latest, today = max(days, default=""), consent_decision.today()
    if latest > today:
        says = f"a segment is of {latest}, and today is {today}: one of the two clocks was wrong"
        yield Finding("clock", NOTE, f"{says}; what is in it stays until {latest} and longer")
