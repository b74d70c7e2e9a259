"""`telemetry-kit export`: write events to a file; after a failure the file is unchanged."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from telemetry_kit._runtime import runtime
from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import check_choice, check_known, declared, stored_forms
from telemetry_kit.cli.output import USAGE, CommandError, counted, info, safe
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.tables import progress
from telemetry_kit.consent import changes, notice
from telemetry_kit.consent import history as consent_history
from telemetry_kit.errors import TelemetryError
from telemetry_kit.export import log
from telemetry_kit.export.formats import DEFAULT, FORMATS, Format, Portion, format_of, is_gzip
from telemetry_kit.files import leftovers, private
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.counting import names
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import Meter, lines
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import PSEUDONYM
from telemetry_kit.storage import rotation
from telemetry_kit.storage.segments import ReadReport

PROGRESS_BYTES = 8 << 20
PROGRESS_SECONDS = 0.2
BUFFER_BYTES = 1 << 20
# Temporary files of killed exports are deleted at this age; a running export is younger.
LEFTOVER_SECONDS = 3_600.0


def run(
    project: str | None,
    form: str | None,
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
    """Write the events of this project to a file or to stdout, without any key.

    Raises:
        CommandError: an option is invalid, the file exists, or it cannot be written.
    """
    paths = changes.paths_of(project)
    path = None if output in (None, "-") else output
    check_choice("--format", form, FORMATS)
    made = FORMATS[form] if form is not None else by_ending(path)
    check_choice("--event", event, catalog.EVENTS)
    fields: dict[str, str | frozenset[str]] = {"event_type": event} if event else {}
    public_role = None
    if role is not None:
        fields["role"], public_role = resolve_role(paths, role)
    chosen = Query(*period(since, until), fields)
    is_stream = path is None or opens_a_stream(path)
    check_output(paths, made, path, is_stream, dictionary or history, force)
    companions = {} if path is None else companion_files(paths, path, dictionary, history)
    for name in companions:
        check_file(name, force)
    problems = ReadReport()
    meter = Meter()
    portions = Watched(lines(paths, chosen, problems, meter), meter, rotation.disk_usage(paths)[1])
    total = hashlib.sha256()
    command = command_line(made.name, chosen, precise, public_role, event)
    note = partial(add_log_entry, paths, command, destination(paths, path, is_stream))
    is_complete = True
    try:
        with signals_as_exit():
            if is_stream:
                blocks = made.blocks(iter(portions), precise, paths.app, is_gzip(path))
                is_complete = write_stream(blocks, path, total)
                sha256 = total.hexdigest()
                # The reader has what it wants, and the rest of the log decides the exit code.
                portions.skip_rest()
            else:
                sha256 = write_events(made, portions, precise, paths.app, path or "", force)
    except ModuleNotFoundError:
        raise CommandError(
            f"--format {made.name} needs DuckDB: pip install 'telemetry-kit[insights]'"
        ) from None
    except FileExistsError:
        raise CommandError(exists_message(path or ""), USAGE) from None
    except BaseException as error:
        # The reader of a stream has received some of the events.
        failed = note(portions.rows, total.hexdigest(), incomplete=True) if is_stream else ""
        if failed:
            info(f"telemetry-kit: {failed}")
        if isinstance(error, OSError):
            raise CommandError(failure_message(path, error, is_stream)) from None
        raise
    finally:
        portions.close()
    failures = [note(portions.rows, sha256, incomplete=not is_complete)]
    read_report.print_problems(problems)
    if path is not None and is_complete:
        events = counted(portions.rows, "event")
        info(f"Exported {events} to {safe(path)} (SHA-256 {sha256[:12]}).")
    failures += [write_companion(name, data, force) for name, data in companions.items()]
    failures.append(read_report.incomplete(problems))
    if any(failures):
        raise CommandError("; ".join(filter(None, failures)))


# -- checks before anything is written ---------------------------------------------------------


def resolve_role(paths: ProjectPaths, role: str) -> tuple[frozenset[str], str]:
    """Return the forms in which a role may be stored, and its name for the export log.

    The export log has the name in plain text only if it is declared.

    Raises:
        CommandError: there is no such role.
    """
    forms = stored_forms(paths, "role", role)
    if role in declared(paths, "roles"):
        return forms, role
    present = names(paths)["role"]
    if present:
        check_known(paths, "role", role, present)
    return forms, next(filter(PSEUDONYM.is_canonical, forms), "?")


def by_ending(path: str | None) -> Format:
    """Return the format for an output without `--format`.

    Raises:
        CommandError: the ending of the file names none.
    """
    made = DEFAULT if path is None else format_of(path)
    if made is None:
        known = ", ".join(FORMATS)
        problem = f"-o {safe(path or '')}: the ending of the file names no format"
        raise CommandError(f"{problem}: add --format with one of {known}", USAGE)
    return made


def check_output(
    paths: ProjectPaths,
    made: Format,
    path: str | None,
    is_stream: bool,
    companions: bool,
    force: bool,
) -> None:
    """Check that the output fits the format and can be written.

    Raises:
        CommandError: it does not.
    """
    if path is not None and not path.strip():
        raise CommandError(f"-o {safe(path)!r}: write a file name, or - for stdout", USAGE)
    if path is None or is_stream:
        if made.write is not None:
            raise CommandError(f"--format {made.name} is no text: name a file with -o FILE", USAGE)
        if companions:
            raise CommandError("--dictionary and --history need a file: name it with -o", USAGE)
        return
    if made.write is not None and is_gzip(path):
        problem = f"-o {safe(path)}: a {made.name} file is not compressed by this command"
        raise CommandError(f"{problem}: leave out .gz", USAGE)
    check_file(path, force)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise CommandError(f"-o {safe(path)}: there is no such folder", USAGE)
    if os.path.realpath(path).startswith(f"{os.path.realpath(paths.folder)}/"):
        raise CommandError(f"-o {safe(path)}: the log is in that folder; use another one", USAGE)


def check_file(path: str, force: bool) -> None:
    """Check that a file can be created or replaced.

    Raises:
        CommandError: it cannot.
    """
    if os.path.isdir(path):
        raise CommandError(f"-o {safe(path)}: it is a folder; name a file in it", USAGE)
    if os.path.lexists(path) and not force:
        raise CommandError(exists_message(path), USAGE)


def opens_a_stream(path: str) -> bool:
    """Whether a path is a pipe or a device, which is written to and never replaced."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    # /dev/stdout is a stream even if stdout is a file.
    is_special = os.path.abspath(path).startswith(("/dev/", "/proc/"))
    return not stat.S_ISDIR(mode) and (is_special or not stat.S_ISREG(mode))


# -- messages ----------------------------------------------------------------------------------


def exists_message(path: str) -> str:
    """Return the error for a file that exists."""
    return f"-o {safe(path)}: the file exists; --force replaces it"


def reason(error: OSError) -> str:
    """Return the reason of a failure in plain words."""
    plain = {
        errno.ENOSPC: "the disk is full",
        errno.EFBIG: "too large for this disk",
        errno.EROFS: "the disk is read-only",
    }
    if isinstance(error, private.ForeignFileError):
        return private.explain(error)
    if error.errno is None:
        return str(error)
    return plain.get(error.errno) or os.strerror(error.errno)


def failure_message(path: str | None, error: OSError, is_stream: bool = False) -> str:
    """Return the error for an output that cannot be written, with its present state."""
    state = "the file is unchanged" if os.path.lexists(path or "") else "no file was created"
    state = "the output is incomplete" if is_stream else state
    return f"{safe(path or 'stdout')} cannot be written ({reason(error)}): {state}"


# -- writing -----------------------------------------------------------------------------------


class Watched:
    """Portions of events, counted, with a progress bar on a terminal.

    Args:
        portions: the portions.
        meter: how much of the log was read for them.
        stored_bytes: size of the log on disk.
    """

    def __init__(self, portions: Iterator[Portion], meter: Meter, stored_bytes: int) -> None:
        self.rows = 0
        self._portions = portions
        self._meter = meter
        self._is_shown = stored_bytes >= PROGRESS_BYTES and sys.stderr.isatty()
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._is_drawn = False

    def __iter__(self) -> Iterator[Portion]:
        for portion in self._portions:
            self.rows += len(portion)
            if self._is_shown and time.monotonic() >= self._next:
                self._next = time.monotonic() + PROGRESS_SECONDS
                self._is_drawn = True
                line = progress(self._meter.share, self.rows, sys.stderr)
                print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
            yield portion

    def skip_rest(self) -> None:
        """Read the portions that nobody has taken."""
        deque(self._portions, maxlen=0)

    def close(self) -> None:
        """Erase the progress bar."""
        if self._is_drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        close = getattr(self._portions, "close", None)
        if close is not None:
            close()


def write_events(
    made: Format, portions: Watched, precise: bool, app: str, path: str, force: bool
) -> str:
    """Write the events to a file and return the SHA-256 of its content.

    Raises:
        FileExistsError: another process created the file meanwhile.
        OSError: the file could not be written and is unchanged.
    """
    leftovers.sweep(os.path.dirname(path) or ".", LEFTOVER_SECONDS)
    if made.write is None:
        blocks = made.blocks(iter(portions), precise, app, is_gzip(path))
        return write_blocks(blocks, path, force)
    with NewFile(path) as new:
        made.write(iter(portions), precise, new.path)
        with open(new.fd, "rb", closefd=False) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        new.place(path, force)
    return sha256


def write_blocks(blocks: Iterable[bytes], path: str, force: bool) -> str:
    """Write blocks to a file and return the SHA-256 of its content."""
    total = hashlib.sha256()
    with NewFile(path) as new:
        with open(new.fd, "wb", BUFFER_BYTES, closefd=False) as out:
            for block in blocks:
                total.update(block)
                out.write(block)
        new.place(path, force)
    return total.hexdigest()


def write_stream(blocks: Iterator[bytes], path: str | None, total: Any) -> bool:
    """Write blocks to stdout, a pipe or a device.

    Args:
        blocks: the bytes.
        path: the pipe or device; None for stdout.
        total: a hash that is updated with the bytes.

    Returns:
        False if the reader has closed the pipe before the end.
    """
    if path is None:
        sys.stdout.flush()
        opened: Any = nullcontext(sys.stdout.buffer)
    else:
        opened = open(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), "wb")  # noqa: SIM115
    try:
        with opened as out:
            if out.isatty():
                blocks = map(escaped, blocks)
            for block in blocks:
                total.update(block)
                out.write(block)
            out.flush()
    except BrokenPipeError:
        return False
    return True


def escaped(block: bytes) -> bytes:
    """Escape the control characters of a text for a terminal."""
    lines = block.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return "\n".join(map(safe, lines)).encode("utf-8", "backslashreplace")


@contextmanager
def signals_as_exit() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `SystemExit`, so that temporary files are deleted.

    The exit code is 128 and the signal. A signal that the program handles or ignores stays so.
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
            # A library may have replaced the exception by its own.
            raise SystemExit(128 + caught[0]) from None
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


# -- files beside the export, and the entry in the export log ----------------------------------


def companion_files(
    paths: ProjectPaths, path: str, dictionary: bool, history: bool
) -> dict[str, bytes]:
    """Return the data dictionary and the history of decisions by file name."""
    found = {}
    if dictionary:
        found[f"{path}.dictionary.md"] = notice.dictionary().encode()
    if history:
        kept = [
            private.read(f"{folder}/{consent_history.HISTORY}", consent_history.MAX_HISTORY_BYTES)
            for _, folder in consent_history.folders(paths)
        ]
        found[f"{path}.consent.jsonl"] = b"".join(filter(None, kept))
    return found


def write_companion(path: str, data: bytes, force: bool) -> str:
    """Write a file beside the export; return the error, or an empty text."""
    try:
        write_blocks((data,), path, force)
    except FileExistsError:
        return f"exported, but {safe(path)} was not written: another process created it meanwhile"
    except OSError as error:
        return f"exported, but {failure_message(path, error)}"
    return ""


def command_line(
    form: str, chosen: Query, precise: bool, role: str | None, event: str | None
) -> str:
    """Return the command as the export log stores it, without paths."""
    options = {"--since": chosen.since, "--until": chosen.until, "--role": role, "--event": event}
    words = ["export", "--format", form]
    words += [word for name, value in options.items() if value for word in (name, value)]
    return " ".join([*words, *(["--precise"] if precise else [])])


def destination(paths: ProjectPaths, path: str | None, is_stream: bool) -> str:
    """Return the destination for the export log; of a personal name, only its ending."""
    # deferred: only an export that is about to be written needs them
    from telemetry_kit.verification import machine_secrets, recognisers, search

    found = os.path.basename(path) if path and is_stream else log.destination_of(paths, path)
    secrets = machine_secrets.gather(paths, runtime.environ, paths.root)
    is_personal = search.Search(search.select(secrets)[0]).find(os.fsencode(found))
    if not is_personal and next(recognisers.recognise(found), None) is None:
        return found
    ending = os.path.splitext(found)[1].lstrip(".")
    return f"?.{ending}" if ending in FORMATS else "?"


def add_log_entry(
    paths: ProjectPaths, command: str, target: str, rows: int, sha256: str, incomplete: bool = False
) -> str:
    """Add an entry to the export log; return the error, or an empty text."""
    try:
        log.append(paths, runtime.now(), command, rows, sha256, target, incomplete)
    except (OSError, TelemetryError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        return f"exported, but the export log has no entry of it ({why})"
    return ""
