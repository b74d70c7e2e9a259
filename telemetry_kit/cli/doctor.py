"""`telemetry-kit doctor`: one line for each thing that must be right, and `--fix`.

What it mends is only what it may: modes of our own files, leftovers, the ignore file.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from telemetry_kit import consent, control, decisions, grants, privacy, private
from telemetry_kit.cli.terminal import Problem, out, safe
from telemetry_kit.errors import ConsentError, JournalError, KeyUnavailableError
from telemetry_kit.home import Home
from telemetry_kit.journal import archive, lease, packing, upkeep
from telemetry_kit.journal.segments import ACTIVE, SEALED, Problems, Segment, snapshot
from telemetry_kit.latch import latch

OK, NOTE, BAD = "ok", "note", "bad"
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        name: what.
        state: `ok`, `note` or `bad`.
        says: one sentence.
        fixed: whether `--fix` has just mended it.
    """

    name: str
    state: str
    says: str
    fixed: bool = False


def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what safely can be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that everything is in order; exit with 1 when something is not.

    Raises:
        Problem: something is wrong and was not mended.
    """
    home = control.home_of(context.obj.project)
    findings = list(examine(home, fix))
    if as_json:
        out(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            state = "fixed" if finding.fixed else finding.state
            out(f"{state:<5}  {finding.name:<10}  {safe(finding.says)}")
    bad = [f for f in findings if f.state == BAD and not f.fixed]
    if bad:
        hint = "" if fix else "; doctor --fix mends what it can"
        raise Problem(f"{len(bad)} of {len(findings)} checks failed{hint}")


def examine(home: Home, fix: bool = False) -> Iterator[Finding]:
    """All findings, in the order in which an event meets them.

    Args:
        home: the places to look at.
        fix: mend what safely can be, as it is found.
    """
    decision = consent.decide(home, latch.world.environ)
    yield Finding("consent", OK if decision.allowed else NOTE, decision.rule.says)
    yield from (Finding("history", BAD, wrong) for wrong in decisions.trouble(home))
    yield _key(home, decision.allowed)
    yield from _folder(home, fix)
    yield _ignored(home, fix)
    with snapshot(home, Problems()) as sources:
        segments = [source.segment for source in sources]
    yield _lease(home, segments)
    yield from _segments(home, segments, fix)
    yield _leftovers(home, fix)
    yield _writable(home)
    yield _retention(home)
    yield from _clock(segments)


def _key(home: Home, allowed: bool) -> Finding:
    try:
        place = consent.place_of(home)
        path = "" if place is None else privacy.key_path(home, place)
        if not path or not os.path.isdir(os.path.dirname(path)):
            return Finding("key", NOTE, "none yet: the first event, or enable, makes it")
        key = privacy.load(path)
    except (ConsentError, KeyUnavailableError) as error:
        return Finding("key", BAD if allowed else NOTE, f"{error}: clear makes a new one")
    inside = os.path.commonpath([os.path.realpath(path), home.root]) == home.root
    if inside and home.root != "/":
        return Finding("key", BAD, f"{path} is inside the project: it would travel with it")
    return Finding("key", OK, f"epoch {key.epoch}, of {key.born}")


def _folder(home: Home, fix: bool) -> Iterator[Finding]:
    try:
        st = os.lstat(home.folder)
    except OSError:
        yield Finding("folder", NOTE, f"{home.folder} is made by the first event")
        return
    for wrong in upkeep.trouble(home):
        mend = _chmod(home.log) if "instead of 0600" in wrong else None
        yield _mended("folder", wrong, mend, fix)
    mode = st.st_mode & 0o777
    if mode & 0o022:
        wrong = f"{home.folder} can be written by others (mode {mode:04o})"
        yield _mended("folder", wrong, lambda: os.chmod(home.folder, mode & ~0o022), fix)
    elif not upkeep.trouble(home):
        yield Finding("folder", OK, f"{home.folder}, mode {mode:04o}")


def _chmod(path: str, mode: int = 0o600) -> Callable[[], None]:
    return lambda: os.chmod(path, mode, follow_symlinks=False)


def _mended(name: str, wrong: str, mend: Callable[[], None] | None, fix: bool) -> Finding:
    if fix and mend is not None:
        try:
            mend()
        except OSError as error:
            return Finding(name, BAD, f"{wrong}; could not be mended ({private.name_of(error)})")
        return Finding(name, BAD, wrong, fixed=True)
    return Finding(name, BAD, wrong)


def _ignored(home: Home, fix: bool) -> Finding:
    if not os.path.isdir(home.folder) or not os.path.exists(f"{home.root}/.git"):
        return Finding("git", NOTE, "no repository, or nothing in it")
    try:
        asked = subprocess.run(
            ["git", "-C", home.root, "check-ignore", "-q", "--no-index", home.log],
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Finding("git", NOTE, "git could not be asked")
    if asked.returncode == 0:
        return Finding("git", OK, "the events are ignored")
    if asked.returncode != 1:
        return Finding("git", NOTE, "git could not be asked")

    def mend() -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(home.ignore, flags | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, lease.IGNORE)
        finally:
            os.close(fd)

    return _mended("git", f"{home.log} is not ignored by git", mend, fix)


def _lease(home: Home, segments: list[Segment]) -> Finding:
    held = [s.name for s in segments if s.kind in (ACTIVE, SEALED) and _is_leased(home, s.name)]
    says = f"held by a running program: {', '.join(held)}" if held else "no program is writing"
    return Finding("lease", OK, says)


def _is_leased(home: Home, name: str) -> bool:
    import fcntl  # deferred: only asked here

    try:
        fd = os.open(f"{home.folder}/{name}", _LOOK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _segments(home: Home, segments: list[Segment], fix: bool) -> Iterator[Finding]:
    for kind in (SEALED, "archive"):
        these = [s for s in segments if s.kind == kind]
        size = sum(s.size_bytes for s in these)
        yield Finding(kind, OK, f"{len(these)} segments, {size} bytes")
        for segment in these:
            path = f"{home.folder}/{segment.name}"
            try:
                mode = os.lstat(path).st_mode & 0o777
            except OSError:
                continue  # packed or deleted since it was listed
            if mode & 0o077:
                wrong = f"{path} is open to others (mode {mode:04o})"
                right = upkeep.SEALED_MODE if kind == SEALED else 0o600
                yield _mended(kind, wrong, _chmod(path, right), fix)
            obstacle = packing.obstacle(segment.name)
            if obstacle:
                yield Finding(kind, BAD, f"{path}: {obstacle}")


def _leftovers(home: Home, fix: bool) -> Finding:
    try:
        names = [n for n in os.listdir(home.folder) if upkeep.TEMPORARY.fullmatch(n)]
    except OSError:
        names = []
    if not names:
        return Finding("leftovers", OK, "none")
    if fix:
        try:
            days = control.retention_days(home)
            done = archive.maintain(home, days, grants.today())
            if not done.survivors:
                return Finding("leftovers", BAD, f"{len(names)} temporary files", fixed=True)
        except JournalError as error:
            return Finding("leftovers", BAD, str(error))
    return Finding(
        "leftovers", NOTE, f"{len(names)} temporary files: the next command deletes them"
    )


def _writable(home: Home) -> Finding:
    """What a writer would meet: the breaker of a running one opens for the same reasons."""
    troubles = upkeep.trouble(home)
    if troubles:
        return Finding("breaker", BAD, f"would open: {troubles[0]}")
    return Finding("breaker", OK, "closed: a line can be written")


def _retention(home: Home) -> Finding:
    days = control.retention_days(home)
    oldest = archive.oldest_day(home)
    if oldest is None:
        return Finding("retention", OK, f"{days} days; nothing is stored")
    term = archive.term(home, days, grants.today())
    if term.in_doubt(oldest):
        says = f"lines of {oldest} stay, because nothing yet confirms that today is {term.today}"
        return Finding(
            "retention", NOTE, f"{days} days; {says}: clear --before {term.oldest} deletes them"
        )
    if term.over(oldest):
        return Finding(
            "retention", NOTE, f"{days} days; lines of {oldest} go with the next command"
        )
    return Finding("retention", OK, f"{days} days; the oldest line is of {oldest}")


def _clock(segments: list[Segment]) -> Iterator[Finding]:
    """Whether a clock was ahead once: lines of a day to come stay until their time is over."""
    days = [m[1] for m in (upkeep.SEGMENT.fullmatch(s.name) for s in segments) if m]
    latest, today = max(days, default=""), grants.today()
    if latest > today:
        says = f"a segment is of {latest}, and today is {today}: one of the two clocks was wrong"
        yield Finding("clock", NOTE, f"{says}; what is in it stays until {latest} and longer")
