"""`telemetry-kit doctor`: check everything, and report or repair each problem."""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from errno import EPERM

from telemetry_kit._runtime import runtime
from telemetry_kit.cli import configuration
from telemetry_kit.cli.output import CommandError, counted, in_bytes
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes, history, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.errors import ConsentError, KeyUnavailableError
from telemetry_kit.files import git, private
from telemetry_kit.insights.cache import count_log
from telemetry_kit.instrumentation import registrations
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import keys, projects
from telemetry_kit.storage import compression, limits, maintenance, rotation, version_control
from telemetry_kit.storage.segments import (
    ACTIVE,
    ARCHIVE,
    SEALED,
    FileReport,
    ReadReport,
    Segment,
    Source,
    snapshot,
)

OK, NOTE, BAD = "ok", "note", "bad"
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOLDER_FLAGS = READ_FLAGS | os.O_DIRECTORY
MAX_LOCKS_BYTES = 1 << 20
Repair = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Args:
        name: the check.
        state: `ok`, `note` or `bad`.
        says: one sentence.
        fixed: whether the state was `bad` and is repaired now.
    """

    name: str
    state: str
    says: str
    fixed: bool = False


def run(project: str | None, fix: bool, as_json: bool) -> None:
    """Check everything; exit with 1 if a check failed and its problem was not repaired.

    Raises:
        CommandError: a problem is left.
    """
    findings = list(check_all(changes.paths_of(project), fix))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            state = "fixed" if finding.fixed else finding.state
            print_folded(finding.says, f"{state:<5}  {finding.name:<10}  ", 19)
    bad = [f for f in findings if f.state == BAD and not f.fixed]
    if bad:
        hint = "" if fix else "; doctor --fix repairs some problems"
        raise CommandError(f"{len(bad)} of {len(findings)} checks failed{hint}")


def check_all(paths: ProjectPaths, fix: bool = False) -> Iterator[Finding]:
    """Run all checks, in the order in which recording an event depends on them.

    Args:
        paths: the project's paths.
        fix: whether to repair problems; each repair is checked again.
    """
    decision = policy.decide(paths, runtime.environ, every_file=True)
    yield Finding("consent", OK if decision.allowed else NOTE, decision.rule.says)
    yield from (Finding("settings", BAD, problem) for problem in configuration.problems(paths))
    yield from (Finding("history", BAD, problem) for problem in history.trouble(paths))
    yield check_key(paths, decision.allowed, fix)
    foreign = foreign_folder(paths)
    if foreign:
        # Another user owns its content, which is neither checked nor repaired.
        yield Finding("folder", BAD, foreign)
        return
    yield from check_folder(paths, fix)
    locks = lock_holders()
    yield check_lock(paths, fix, locks)
    yield check_git(paths, fix)
    problems = ReadReport()
    with snapshot(paths, problems) as sources:
        segments = [source.segment for source in sources]
    held = [s.name for s in segments if s.kind in (ACTIVE, SEALED) and s.identity[1] in locks]
    lease = f"held by a running program: {', '.join(held)}" if held else "no program is writing"
    yield Finding("lease", OK, lease)
    yield from check_segments(paths, segments, fix)
    yield from (Finding("segments", BAD, sentence) for sentence in problems.sentences())
    yield check_lines(paths)
    yield from check_leftovers(paths, fix)
    # The breaker of a running writer opens for the same reasons.
    obstacles = rotation.trouble(paths)
    breaker = f"would open: {obstacles[0]}" if obstacles else "closed: a line can be written"
    yield Finding("breaker", BAD if obstacles else OK, breaker)
    yield last_error(paths)
    files, size = rotation.disk_usage(paths)
    says = f"{in_bytes(size)} in {counted(files, 'file')}, at most {in_bytes(limits.MAX_BYTES)}"
    is_full = size > limits.MAX_BYTES // 10 * 9
    says = f"{says}: the oldest files are deleted first" if is_full else says
    yield Finding("size", NOTE if is_full else OK, says)
    yield check_retention(paths)
    days = [m[1] for m in (rotation.SEGMENT.fullmatch(s.name) for s in segments) if m]
    latest, today = max(days, default=""), consent_decision.today()
    if latest > today:
        says = f"a segment is of {latest}, and today is {today}: one of the two clocks was wrong"
        yield Finding("clock", NOTE, f"{says}; its lines stay until {latest} and longer")
    yield from (Finding("decorators", NOTE, says) for says in registrations.not_called())


# -- repairs -----------------------------------------------------------------------------------


def checked(
    name: str, problem: Callable[[], str], repair: Repair, fix: bool, well: str = ""
) -> Finding:
    """Return a finding about the problem, if any; a repaired problem is looked for again."""
    before = problem()
    if not before:
        return Finding(name, OK, well)
    if not fix:
        return Finding(name, BAD, before)
    try:
        repair()
    except OSError as error:
        return Finding(name, BAD, f"{before}; could not be repaired: {private.explain(error)}")
    after = problem()
    return Finding(name, BAD, after or before, fixed=not after)


def set_mode(path: str, right: Callable[[int], int], flags: int = READ_FLAGS) -> Repair:
    """Return a repair that sets the mode of a file or folder of ours, never through a link."""

    def repair() -> None:
        try:
            fd = os.open(path, flags)
        except PermissionError:
            # Even its owner cannot open it, so its mode is set by name.
            if not rotation.is_plain(os.lstat(path)):
                raise
            private.set_mode(path, right(0))
            return
        try:
            st = os.fstat(fd)
            if not (
                rotation.is_plain(st) or (stat.S_ISDIR(st.st_mode) and st.st_uid == os.geteuid())
            ):
                raise PermissionError(EPERM, "another user owns it", path)
            os.fchmod(fd, right(st.st_mode & 0o777))
        finally:
            os.close(fd)

    return repair


def mode_of(path: str) -> int | None:
    """Return the permission bits of a file; None if it cannot be seen."""
    try:
        return os.lstat(path).st_mode & 0o777
    except OSError:
        return None


def check_private(name: str, path: str, fix: bool, right: int = 0o600) -> Iterator[Finding]:
    """Yield a finding if other users can access a file."""

    def problem() -> str:
        mode = mode_of(path) or 0
        return f"other users can access {path} (mode {mode:04o})" if mode & 0o077 else ""

    if problem():
        yield checked(name, problem, set_mode(path, lambda _: right), fix)


# -- the checks --------------------------------------------------------------------------------


def check_key(paths: ProjectPaths, allowed: bool, fix: bool) -> Finding:
    """Check the key of the pseudonyms; without consent, a problem is only a note."""
    try:
        dirs = projects.ProjectDirs.of(paths)
    except ConsentError as error:
        return Finding("key", BAD if allowed else NOTE, str(error))
    path = "" if dirs is None else dirs.key
    if not path or not os.path.isdir(os.path.dirname(path)):
        return Finding("key", NOTE, "none yet: enable or the first event creates it")
    if paths.root != "/" and os.path.commonpath([os.path.realpath(path), paths.root]) == paths.root:
        return Finding("key", BAD, f"{path} is inside the project: a copy would include it")

    def problem() -> str:
        try:
            keys.load(path)
        except KeyUnavailableError as error:
            return str(error)
        return ""

    found = problem()
    if not found:
        key = keys.load(path)
        return Finding("key", OK, f"epoch {key.epoch}, created on {key.born}")
    if not allowed:
        return Finding("key", NOTE, found)
    mode = mode_of(path)
    if mode is None:
        return checked("key", problem, lambda: keys.create(path, runtime.now()), fix)
    if mode & 0o077:
        return checked("key", problem, set_mode(path, lambda _: 0o600), fix)
    if private.remedy(path):
        return Finding("key", BAD, found)  # the sentence contains the remedy
    return Finding(
        "key", BAD, f"{found}: clear deletes the events that need it and makes a new one"
    )


def foreign_folder(paths: ProjectPaths) -> str:
    """Return a sentence if the project's folder is no folder, or another user owns it."""
    try:
        st = os.lstat(paths.folder)
    except OSError:
        return ""
    if not stat.S_ISDIR(st.st_mode):
        return f"{paths.folder} is not a folder: move it away"
    return f"{paths.folder} belongs to another user" if st.st_uid != os.geteuid() else ""


def check_folder(paths: ProjectPaths, fix: bool) -> Iterator[Finding]:
    """Check the modes of the project's folder, of the log and of the count cache."""
    mode = mode_of(paths.folder)
    if mode is None:
        yield Finding("folder", NOTE, f"{paths.folder} does not exist: the first event creates it")
        return

    def folder_problem() -> str:
        mode = mode_of(paths.folder) or 0
        if mode & 0o022:
            return f"other users can write to {paths.folder} (mode {mode:04o})"
        if mode & 0o700 != 0o700:
            return f"you have no access to {paths.folder} (mode {mode:04o})"
        return ""

    def log_mode_problem() -> str:
        return next((wrong for wrong in rotation.trouble(paths) if "instead of 0600" in wrong), "")

    repair = set_mode(paths.folder, lambda mode: (mode | 0o700) & ~0o022, FOLDER_FLAGS)
    yield checked("folder", folder_problem, repair, fix, f"{paths.folder}, mode {mode:04o}")
    for problem in rotation.trouble(paths):
        if "instead of 0600" in problem:
            yield checked("log", log_mode_problem, set_mode(paths.log, lambda _: 0o600), fix)
        else:
            yield Finding("log", BAD, problem)
    yield from check_private("roll-up", f"{paths.folder}/{rotation.COUNT_CACHE}", fix)


def check_lock(paths: ProjectPaths, fix: bool, locks: dict[int, str]) -> Finding:
    """Check that maintenance can take its lock; without it nothing is compressed or deleted."""
    inode = -1

    def problem() -> str:
        nonlocal inode
        try:
            st = os.lstat(paths.lock)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{paths.lock} cannot be read ({private.name_of(error)})"
        inode = st.st_ino
        if not rotation.is_plain(st):
            return f"{paths.lock} is not a plain file of yours: move it away"
        if st.st_mode & 0o777 != 0o600:
            return f"{paths.lock} has mode {st.st_mode & 0o777:04o} instead of 0600"
        return ""

    found = checked("lock", problem, set_mode(paths.lock, lambda _: 0o600), fix, "free")
    without_locks = rotation.without_locks(paths)
    if found.state == OK and without_locks:
        return Finding("lock", NOTE, without_locks)
    if found.state == OK and inode in locks:
        holder = "a process" if locks[inode] == "0" else f"process {locks[inode]}"
        says = f"held by {holder}: nothing is sealed, compressed or deleted until it ends"
        return Finding("lock", NOTE, says)
    return found


def lock_holders() -> dict[int, str]:
    """Return the process that holds each file lock, by inode.

    The system's list is read, because a test of the lock itself could block a writer.
    """
    found: dict[int, str] = {}
    try:
        listed = private.read_regular("/proc/locks", MAX_LOCKS_BYTES)
        for line in listed.decode("ascii", "replace").splitlines():
            words = line.split()
            # `1: FLOCK  ADVISORY  READ 123 08:01:4711 0 EOF`; `->` marks a process that waits.
            if len(words) > 5 and words[1] == "FLOCK":
                found[int(words[5].rpartition(":")[2])] = words[4]
    except (OSError, ValueError):
        return found
    return found


def check_git(paths: ProjectPaths, fix: bool) -> Finding:
    """Check that git ignores the events."""

    def exit_code(*words: str) -> int:
        answer = git.run(paths.root, *words, environ=runtime.environ)
        return -1 if answer is None else answer.returncode

    if not os.path.isdir(paths.folder):
        return Finding("git", NOTE, "nothing is stored yet")
    inside = exit_code("rev-parse", "--is-inside-work-tree")
    if inside == 128:
        return Finding("git", NOTE, "git finds no repository of yours here")
    if inside != 0:
        return Finding("git", NOTE, "git cannot report whether the events are ignored")
    if exit_code("ls-files", "--error-unmatch", "--", f":(literal){paths.log}") == 0:
        says = f"{paths.log} is under version control: git rm --cached removes it"
        return Finding("git", BAD, says)

    def problem() -> str:
        code = exit_code("check-ignore", "-q", "--no-index", paths.log)
        if code in (0, 1):
            return f"{paths.log} is not ignored by git" * code
        return f"git cannot report whether {paths.log} is ignored"

    def repair() -> None:
        try:
            version_control.ensure(paths)
        except ConsentError:
            return  # the second check reports it

    return checked("git", problem, repair, fix, "the events are ignored")


def check_segments(paths: ProjectPaths, segments: list[Segment], fix: bool) -> Iterator[Finding]:
    """Check the modes of sealed segments and archives, and that each archive can be read."""
    for kind in (SEALED, ARCHIVE):
        these = [s for s in segments if s.kind == kind]
        size = sum(s.size_bytes for s in these)
        yield Finding(kind, OK, f"{counted(len(these), 'segment')}, {in_bytes(size)}")
        for segment in these:
            path = f"{paths.folder}/{segment.name}"
            right = rotation.SEALED_MODE if kind == SEALED else 0o600
            yield from check_private(kind, path, fix, right)
            problem = compression.obstacle(segment.name)
            if not problem and kind == ARCHIVE:
                # Reading it to the end shows whether it is damaged.
                report = FileReport()
                folder = os.open(paths.folder, FOLDER_FLAGS)
                try:
                    deque(Source(segment, folder, None).chunks(report), maxlen=0)
                finally:
                    os.close(folder)
                problem = report.stopped
            if problem:
                yield Finding(kind, BAD, f"{path}: {problem}")


def check_lines(paths: ProjectPaths) -> Finding:
    """Check that each line is an event of this version."""
    counted_log = count_log(paths)
    events = counted(counted_log.counters.total("events"), "event")
    problems = counted_log.problems
    says = "; ".join([events, *problems.sentences()])
    if problems.other_version:
        return Finding("lines", BAD, f"{says}: update telemetry-kit to read these")
    # A process that was killed leaves the beginning of a line.
    return Finding("lines", OK if says == events else NOTE, says)


def check_leftovers(paths: ProjectPaths, fix: bool) -> Iterator[Finding]:
    """Look for temporary files of commands that were killed."""

    def temporary(folders: bool = False) -> list[str]:
        try:
            with os.scandir(paths.folder) as entries:
                return [
                    entry.name
                    for entry in entries
                    if rotation.TEMPORARY.fullmatch(entry.name)
                    and entry.is_dir(follow_symlinks=False) == folders
                ]
        except OSError:
            return []

    def problem() -> str:
        found = counted(len(temporary()), "temporary file")
        return f"{found}: the next command deletes them" if temporary() else ""

    def repair() -> None:
        maintenance.maintain(
            paths, policy.decide(paths, runtime.environ).keep_days, consent_decision.today()
        )

    for name in temporary(folders=True):
        yield Finding("leftovers", BAD, f"{paths.folder}/{name} is not a file: move it away")
    found = checked("leftovers", problem, repair, fix, "none")
    # They take some space, and block nothing.
    yield found if found.fixed or found.state == OK else Finding("leftovers", NOTE, found.says)


def last_error(paths: ProjectPaths) -> Finding:
    """Return the last error of a program that could not record an event here."""
    try:
        dirs = projects.ProjectDirs.of(paths)
        path = "" if dirs is None else dirs.last_error
        kept = private.read(path, 100) if path else None
    except (ConsentError, private.UnsafeFileError) as error:
        return Finding("last error", NOTE, str(error))
    if not kept:
        return Finding("last error", OK, "none")
    day, _, name = kept.decode("ascii", "replace").strip().partition(" ")
    return Finding("last error", NOTE, f"{name}, on {day}: an event was not recorded")


def check_retention(paths: ProjectPaths) -> Finding:
    """Check that no expired line is left."""
    keep_days = policy.decide(paths, runtime.environ).keep_days
    days = counted(keep_days, "day")
    oldest = maintenance.oldest_day(paths)
    if oldest is None:
        return Finding("retention", OK, f"{days}; nothing is stored")
    term = maintenance.retention(paths, keep_days, consent_decision.today())
    if term.is_skipped and oldest < term.oldest:
        says = f"lines of {oldest} stay, because no archive is of the 400 days before {term.today}"
        hint = f"clear --before {term.oldest} deletes them"
        return Finding("retention", NOTE, f"{days}; {says}: {hint}")
    if term.is_expired(oldest):
        decided = policy.is_decided(paths)
        when = "the next command deletes" if decided else "without a decision, nothing deletes"
        return Finding("retention", NOTE, f"{days}; {when} lines of {oldest}")
    return Finding("retention", OK, f"{days}; the oldest line is of {oldest}")
