"""`telemetry-kit export`: write all events to a file that is complete or absent.

`telemetry_kit.export` defines the formats.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from telemetry_kit._runtime import runtime
from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import declared, forms, given, must_be_known, one_of
from telemetry_kit.cli.output import USAGE, CommandError, info, safe
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.tables import progress
from telemetry_kit.consent import changes, notice
from telemetry_kit.consent import history as consent_history
from telemetry_kit.errors import TelemetryError
from telemetry_kit.export import log
from telemetry_kit.export.formats import FORMATS, Format, Portion
from telemetry_kit.files import leftovers, private
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.counting import names
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import Meter, lines
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import PSEUDONYM
from telemetry_kit.storage import rotation
from telemetry_kit.storage.segments import ReadReport

_PROGRESS_BYTES = 8 << 20
_PROGRESS_SECONDS = 0.2
_BUFFER_BYTES = 1 << 20
# What a killed export left is deleted when it is this old: one that still runs is younger.
_LEFT_SECONDS = 3_600.0


def run(
    project: str | None,
    form: str,
    since: str | None,
    until: str | None,
    role: str | None,
    event: str | None,
    output: str | None,
    precise: bool,
    dictionary: bool,
    history: bool,
    force: bool,
) -> None:
    """Write the events of this project to a file, or to stdout. Keys are never in it.

    Raises:
        CommandError: an option cannot be understood, the file is there already, or it cannot be
            written.
    """
    home = changes.paths_of(project)
    path = None if output in (None, "-") else output
    made = _format(form)
    fields = _fields(home, role, event)
    chosen = Query(*period(since, until), fields)
    streams = path is None or _is_stream(path)
    _check(home, made, path, streams, dictionary or history, force)
    beside = {} if path is None else _beside(home, path, dictionary, history)
    for name in beside:
        _check_file(name, force)
    problems = ReadReport()
    meter = Meter()
    portions = _Watched(lines(home, chosen, problems, meter), meter, rotation.disk_usage(home)[1])
    total = hashlib.sha256()
    words = _words(form, chosen, precise, _named(home, role), event)
    entry = _Entry(home, " ".join(words), path, streams)
    try:
        with _ended_by_an_error():
            if streams:
                _send(made.blocks(iter(portions), precise, home.app), path, total)
                sha256 = total.hexdigest()
            else:
                sha256 = _write(made, portions, precise, home.app, path or "", force)
    except ModuleNotFoundError:
        raise CommandError(
            f"--format {form} needs DuckDB: pip install 'telemetry-kit[insights]'"
        ) from None
    except FileExistsError:
        raise CommandError(_exists(path or ""), USAGE) from None
    except BaseException as error:
        # What went into a stream has left the journal, all of it or not.
        failed = entry.note(portions.rows, total.hexdigest(), incomplete=True) if streams else ""
        if failed:
            info(f"telemetry-kit: {failed}")
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise CommandError(_not_written(path, error, streams)) from None
        raise
    finally:
        portions.close()
    trouble = [entry.note(portions.rows, sha256)]
    read_report.tell(problems)
    if path is not None:
        info(f"Exported {portions.rows:,} events to {safe(path)} (SHA-256 {sha256[:12]}).")
    trouble += [_put_beside(name, data, force) for name, data in beside.items()]
    trouble.append(read_report.incomplete(problems))
    if any(trouble):
        raise CommandError("; ".join(filter(None, trouble)))


def _format(form: str) -> Format:
    one_of("--format", form, FORMATS)
    return FORMATS[form]


def _fields(
    home: ProjectPaths, role: str | None, event: str | None
) -> dict[str, str | frozenset[str]]:
    """What fields must hold.

    Raises:
        CommandError: there is no such role or event.
    """
    fields: dict[str, str | frozenset[str]] = {}
    if one_of("--event", event, catalog.EVENTS) is not None and event is not None:
        fields["event_type"] = event
    if given("--role", role) is not None and role is not None:
        fields["role"] = forms(home, "role", role)
        present = set() if role in declared(home, "roles") else names(home)["role"]
        if present:
            must_be_known(home, "--role", "role", role, present)
    return fields


def _named(home: ProjectPaths, role: str | None) -> str | None:
    """A role as the ledger may name it: in clear only where its name is public or declared."""
    if role is None or role in declared(home, "roles"):
        return role
    codes = [form for form in forms(home, "role", role) if PSEUDONYM.is_canonical(form)]
    return codes[0] if codes else "?"


def _check(
    home: ProjectPaths, made: Format, path: str | None, streams: bool, more: bool, force: bool
) -> None:
    if path is not None and not path.strip():
        raise CommandError(f"-o {safe(path)!r}: which file? Name one, or - for stdout", USAGE)
    if streams:
        if made.write is not None:
            raise CommandError(f"--format {made.name} is no text: name a file with -o FILE", USAGE)
        if more:
            raise CommandError(
                "--dictionary and --history stand beside a file: name it with -o", USAGE
            )
        return
    assert path is not None
    _check_file(path, force)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise CommandError(f"-o {safe(path)}: there is no such folder", USAGE)
    if os.path.realpath(path).startswith(f"{os.path.realpath(home.folder)}/"):
        raise CommandError(
            f"-o {safe(path)}: that folder is the journal's own; choose another", USAGE
        )


def _check_file(path: str, force: bool) -> None:
    if os.path.isdir(path):
        raise CommandError(f"-o {safe(path)}: it is a folder; name a file in it", USAGE)
    if os.path.lexists(path) and not force:
        raise CommandError(_exists(path), USAGE)


def _exists(path: str) -> str:
    return f"-o {safe(path)}: it is there already; --force replaces it"


def _why(error: OSError) -> str:
    plain = {
        errno.ENOSPC: "the disk is full",
        errno.EFBIG: "too large for this disk",
        errno.EROFS: "it is read-only there",
    }
    if isinstance(error, private.ForeignFileError):
        return private.explain(error)
    if error.errno is None:
        return str(error)
    return plain.get(error.errno) or os.strerror(error.errno)


def _not_written(path: str | None, error: OSError, streams: bool = False) -> str:
    if streams:
        left = "what went there is not all"
    elif os.path.lexists(path or ""):
        left = "what was there is as it was"
    else:
        left = "nothing was left there"
    return f"{safe(path or 'stdout')} cannot be written ({_why(error)}): {left}"


# -- writing ---------------------------------------------------------------------------------


class _Watched:
    """Portions on their way, counted, with a bar on stderr where somebody looks at it.

    Args:
        portions: of events.
        meter: how much of the journal was read for them.
        stored_bytes: how large the journal is on disk.
    """

    def __init__(self, portions: Iterator[Portion], meter: Meter, stored_bytes: int) -> None:
        self.rows = 0
        self._portions = portions
        self._meter = meter
        self._shown = stored_bytes >= _PROGRESS_BYTES and sys.stderr.isatty()
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._drawn = False

    def __iter__(self) -> Iterator[Portion]:
        for portion in self._portions:
            self.rows += len(portion)
            if self._shown and time.monotonic() >= self._next:
                self._draw()
            yield portion

    def _draw(self) -> None:
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._drawn = True
        sys.stderr.write(f"\r{progress(self._meter.share, self.rows, sys.stderr)}\x1b[K")
        sys.stderr.flush()

    def close(self) -> None:
        """Wipe the bar away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        close = getattr(self._portions, "close", None)
        if close is not None:
            close()


def _write(
    made: Format, portions: _Watched, precise: bool, app: str, path: str, force: bool
) -> str:
    """Write the events to a file; the SHA-256 of what was written.

    Raises:
        FileExistsError: it came there meanwhile, and is not to be replaced.
        OSError: it could not be written; what was there is as it was.
    """
    leftovers.sweep(os.path.dirname(path) or ".", _LEFT_SECONDS)
    if made.write is None:
        return _put(made.blocks(iter(portions), precise, app), path, force)
    with NewFile(path) as new:
        made.write(iter(portions), precise, new.path)
        with open(new.fd, "rb", closefd=False) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        new.place(path, force)
    return sha256


def _put(blocks: Iterable[bytes], path: str, force: bool) -> str:
    total = hashlib.sha256()
    with NewFile(path) as new:
        with open(new.fd, "wb", _BUFFER_BYTES, closefd=False) as out:
            for block in blocks:
                total.update(block)
                out.write(block)
        new.place(path, force)
    return total.hexdigest()


def _is_stream(path: str) -> bool:
    """Whether what is there is written into, and never replaced: a pipe, a device."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    # /dev/stdout is one also where stdout is a file.
    of_the_system = os.path.abspath(path).startswith(("/dev/", "/proc/"))
    return not stat.S_ISDIR(mode) and (of_the_system or not stat.S_ISREG(mode))


@contextmanager
def _ended_by_an_error() -> Iterator[None]:
    """SIGTERM and SIGHUP delete the temporary file, and the export log says what was cut short.

    The command then exits with 128 and the signal. A signal that the program handles itself, or
    ignores, stays its own.
    """
    caught: list[int] = []

    def stop(number: int, _: object) -> None:
        if not caught:
            caught.append(number)
            raise SystemExit(128 + number)

    former = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            try:
                former[number] = signal.signal(number, stop)
            except ValueError:
                break  # not the main thread
    try:
        yield
    except BaseException:
        if caught:
            # A library in between may have made another error of it.
            raise SystemExit(128 + caught[0]) from None
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _send(blocks: Iterator[bytes], path: str | None, total: Any) -> None:
    """Write the events to stdout, or into a pipe or a device, which is never replaced.

    Args:
        blocks: the bytes.
        path: of the pipe; None for stdout.
        total: a sum that takes what is written.
    """
    if path is None:
        sys.stdout.flush()
        _pour(blocks, sys.stdout.buffer, total)
        return
    with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), "wb") as out:
        _pour(blocks, out, total)


def _pour(blocks: Iterator[bytes], out: BinaryIO, total: Any) -> None:
    if out.isatty():
        blocks = map(_shown, blocks)
    for block in blocks:
        total.update(block)
        out.write(block)
    out.flush()


def _shown(block: bytes) -> bytes:
    """Text in which a terminal finds nothing to act upon."""
    lines = block.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return "\n".join(map(safe, lines)).encode("utf-8", "backslashreplace")


# -- what goes with it -----------------------------------------------------------------------


def _beside(home: ProjectPaths, path: str, dictionary: bool, history: bool) -> dict[str, bytes]:
    """Dictionary and history by file name."""
    found = {}
    if dictionary:
        found[f"{path}.dictionary.md"] = notice.dictionary().encode()
    if history:
        dirs = projects.ProjectDirs.of(home)
        folders = [home.config] if dirs is None else [home.config, dirs.config]
        kept = [
            private.read(f"{folder}/{consent_history.HISTORY}", consent_history.MAX_HISTORY_BYTES)
            for folder in folders
        ]
        found[f"{path}.consent.jsonl"] = b"".join(part for part in kept if part)
    return found


def _put_beside(path: str, data: bytes, force: bool) -> str:
    """Write one of them; what to say where that failed: the events are where they should be."""
    try:
        _put((data,), path, force)
    except FileExistsError:
        return f"exported, but {safe(path)} was not written: it came there meanwhile"
    except OSError as error:
        return f"exported, but {_not_written(path, error)}"
    return ""


def _words(
    form: str, chosen: Query, precise: bool, role: str | None, event: str | None
) -> list[str]:
    """What was run, without paths."""
    words = ["export", "--format", form]
    words += ["--since", chosen.since] if chosen.since else []
    words += ["--until", chosen.until] if chosen.until else []
    words += ["--role", role] if role else []
    words += ["--event", event] if event else []
    return [*words, "--precise"] if precise else words


def _unless_personal(home: ProjectPaths, destination: str) -> str:
    """A destination, or its ending where it says something about the user or the machine."""
    # deferred: they are of use only once the events are on their way
    from telemetry_kit.verification import machine_secrets, recognisers, search

    secrets = machine_secrets.gather(home, runtime.environ, home.root)
    found = search.Search(search.select(secrets)[0]).find(os.fsencode(destination))
    if not found and next(recognisers.recognise(destination), None) is None:
        return destination
    ending = os.path.splitext(destination)[1].lstrip(".")
    return f"?.{ending}" if ending in FORMATS else "?"


class _Entry:
    """What the ledger will say of this export.

    Args:
        home: the project's places.
        command: what was run.
        path: where it goes; None for stdout.
        streams: whether that is a pipe or a device.
    """

    def __init__(self, home: ProjectPaths, command: str, path: str | None, streams: bool) -> None:
        self._home = home
        self._command = command
        named = path is not None and streams
        self._destination = _unless_personal(
            home, os.path.basename(path or "") if named else log.destination_of(home, path)
        )

    def note(self, rows: int, sha256: str, incomplete: bool = False) -> str:
        """Put it there; what to say where that failed."""
        now = runtime.now()
        given = (self._command, rows, sha256, self._destination, incomplete)
        try:
            log.append(self._home, now, *given)
        except (OSError, TelemetryError) as error:
            why = _why(error) if isinstance(error, OSError) else str(error)
            return f"exported, but not added to the export log ({why})"
        return ""
