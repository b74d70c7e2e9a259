"""`telemetry-kit export`: every event into a file that is whole or not there.

How the formats look is the insights' business.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import typer

from telemetry_kit import catalog, consent, control, decisions, notice, private
from telemetry_kit.cli import landing
from telemetry_kit.cli.layout import progress
from telemetry_kit.cli.stats import period
from telemetry_kit.cli.terminal import USAGE, Problem, safe, say
from telemetry_kit.errors import TelemetryError
from telemetry_kit.home import Home
from telemetry_kit.insights import exports
from telemetry_kit.insights.formats import COLUMNS, FORMATS, Format, Portion
from telemetry_kit.insights.select import Filter, Meter, lines
from telemetry_kit.journal import upkeep
from telemetry_kit.journal.segments import Problems
from telemetry_kit.latch import latch

_NAMES = "|".join(FORMATS)
_PROGRESS_BYTES = 8 << 20
_PROGRESS_SECONDS = 0.2


def export(
    context: typer.Context,
    form: Annotated[
        str, typer.Option("--format", metavar=_NAMES, help="How to write it.")
    ] = "jsonl",
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="From this day on (YYYY-MM-DD).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="Up to and with this day.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to; stdout by default."),
    ] = None,
    precise: Annotated[
        bool, typer.Option("--precise", help="Leave times as stored instead of cut to the day.")
    ] = False,
    dictionary: Annotated[
        bool, typer.Option("--dictionary", help="Also write FILE.dictionary.md.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Also write FILE.consent.jsonl: what you decided.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write the events of this project to a file, or to stdout. Keys are never in it.

    Raises:
        Problem: an option cannot be understood, the file is there already, or it cannot be written.
    """
    home = control.home_of(context.obj.project)
    path = None if output in (None, "-") else output
    made = _format(form)
    chosen = Filter(*period(since, until))
    _check(home, made, path, dictionary or history, force)
    problems = Problems()
    meter = Meter()
    portions = _Watched(lines(home, chosen, problems, meter), meter, upkeep.size(home))
    beside = _beside(home, path, dictionary, history) if path is not None else {}
    try:
        sha256 = _write(made, portions, precise, path, force)
        for name, data in beside.items():
            landing.put(iter((data,)), name, force)
    except ModuleNotFoundError:
        raise Problem(
            f"--format {form} needs DuckDB: pip install 'telemetry-kit[insights]'"
        ) from None
    except BrokenPipeError:
        raise
    except FileExistsError:
        raise Problem(_exists(output or ""), USAGE) from None
    except OSError as error:
        where = safe(path or "stdout")
        raise Problem(
            f"{where} cannot be written ({_why(error)}): nothing was left there"
        ) from None
    finally:
        portions.close()
    for sentence in problems.sentences():
        say(f"telemetry-kit: {safe(sentence)}")
    if path is not None:
        say(f"Exported {portions.rows:,} events to {safe(path)} (SHA-256 {sha256[:12]}).")
    _note(home, form, chosen, precise, portions.rows, sha256, path)
    _unread(problems)


def _format(form: str) -> Format:
    if form not in FORMATS:
        near = catalog.nearest(form, FORMATS)[0]
        raise Problem(f"--format {safe(form[:20])!r}: did you mean {near!r}?", USAGE)
    return FORMATS[form]


def _check(home: Home, made: Format, path: str | None, more: bool, force: bool) -> None:
    if path is None:
        if made.write is not None:
            raise Problem(f"--format {made.name} is no text: name a file with -o FILE", USAGE)
        if more:
            raise Problem("--dictionary and --history stand beside a file: name it with -o", USAGE)
        return
    if os.path.isdir(path):
        raise Problem(f"-o {safe(path)}: it is a folder; name a file in it", USAGE)
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise Problem(f"-o {safe(path)}: there is no such folder", USAGE)
    if os.path.realpath(path).startswith(f"{os.path.realpath(home.folder)}/"):
        raise Problem(f"-o {safe(path)}: that folder is the journal's own; choose another", USAGE)
    if os.path.lexists(path) and not force:
        raise Problem(_exists(path), USAGE)


def _exists(path: str) -> str:
    return f"-o {safe(path)}: it is there already; --force replaces it"


def _why(error: OSError) -> str:
    name = private.name_of(error)
    plain = {"ENOSPC": "the disk is full", "EFBIG": "too large for this disk", "EROFS": "read-only"}
    return plain.get(name, str(error) if error.errno is None else name)


def _unread(problems: Problems) -> None:
    stopped = [name for name, report in problems.files.items() if report.stopped]
    if stopped:
        raise Problem(f"incomplete: {', '.join(map(safe, stopped))} could not be read to the end")


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


def _write(made: Format, portions: _Watched, precise: bool, path: str | None, force: bool) -> str:
    """Write the events; the SHA-256 of what was written."""
    if made.stream is not None:
        blocks = made.stream(iter(portions), precise)
        return landing.put(blocks, path, force) if path is not None else _print(blocks)
    assert path is not None
    assert made.write is not None
    return landing.made_by(partial(made.write, iter(portions), precise), path, force)


def _print(blocks: Iterator[bytes]) -> str:
    total = hashlib.sha256()
    sys.stdout.flush()
    for block in blocks:
        total.update(block)
        sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
    return total.hexdigest()


# -- what goes with it -----------------------------------------------------------------------


def _beside(home: Home, path: str, dictionary: bool, history: bool) -> dict[str, bytes]:
    """Dictionary and history by file name."""
    found = {}
    if dictionary:
        found[f"{path}.dictionary.md"] = notice.dictionary().encode()
    if history:
        place = consent.place_of(home)
        folders = (
            [home.config] if place is None else [home.config, f"{home.config}/projects/{place}"]
        )
        kept = [
            private.read(f"{folder}/{decisions.HISTORY}", decisions.MAX_HISTORY_BYTES)
            for folder in folders
        ]
        found[f"{path}.consent.jsonl"] = b"".join(part for part in kept if part)
    return found


def _note(
    home: Home, form: str, chosen: Filter, precise: bool, rows: int, sha256: str, path: str | None
) -> None:
    words: list[Any] = ["export", "--format", form]
    words += ["--since", chosen.since] if chosen.since else []
    words += ["--until", chosen.until] if chosen.until else []
    words += ["--precise"] if precise else []
    destination = exports.destination_of(home, path)
    try:
        exports.note(home, latch.world.now(), " ".join(words), COLUMNS, rows, sha256, destination)
    except (OSError, TelemetryError) as error:
        why = private.name_of(error) if isinstance(error, OSError) else str(error)
        raise Problem(f"exported, but not noted in the ledger of exports ({why})") from None
