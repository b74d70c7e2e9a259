"""Export formats: each turns portions of events into bytes, one portion at a time.

The caller supplies portions, of canonical lines or of events, and writes the bytes. Times are
truncated to the day, except if the caller asks for `precise` times. A new format is one row in
`FORMATS`.
"""

from __future__ import annotations

import csv
import errno
import glob
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from telemetry_kit._version import __version__
from telemetry_kit.export.log import FIELDS
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.selection import Block
from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import Event

_compact = json.JSONEncoder(separators=(",", ":")).encode
Portion = list[bytes | Event] | Block
Portions = Iterator[Portion]

_COARSE = re.compile(
    rb'^(\{"schema_version":"[^"]*","event_id":"[^"]*","event_type":"[^"]*","timestamp":"[^"T]{10})'
    rb'T[^"]*',
    re.MULTILINE,
)
# A spreadsheet takes a cell for a formula if it begins with one of these signs, in ASCII or full
# width. Some locales end a cell at a semicolon or tab. Programs ignore control and format
# characters before the sign.
_UNSEEN = (
    "\\x00-\\x1f\\x7f-\\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(rf"(^|[;,\t|\r\n])([\s\"'{_UNSEEN}]*)(?=[{_SIGNS}])")
# An id such as 5e8446348487 or 004611686018 is a number for spreadsheets, pandas and DuckDB. Only a
# cell with other letters is text for all of them. A reader of the file removes the prefix.
ID_PREFIX = "id:"
_GUARD = re.compile(rf"(^|[;,\t|\r\n])([\s\"'{_UNSEEN}]*)'(?=[{_SIGNS}])")
_WHOLE = frozenset(row.name for row in catalog.FIELDS.values() if row.kind == catalog.MEASURE)
_IDS = frozenset(row.name for row in catalog.FIELDS.values() if row.kind == catalog.RANDOM)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# A sign inside a string; JSON can write it as an escape.
_SIGN = re.compile(r"(?<![A-Za-z0-9_/.])[=+\-@]")


def coarse(event: Event) -> Event:
    """Return an event with its time truncated to the day."""
    return {**event, "timestamp": event["timestamp"][:10] + "T00:00:00Z"}


def lines_of(portion: Portion, precise: bool) -> bytes:
    """Return a portion as JSON lines, each with its end."""
    if isinstance(portion, Block):
        return portion.data
    lines = [
        item if isinstance(item, bytes) else _compact(item if precise else coarse(item)).encode()
        for item in portion
    ]
    block = b"\n".join([*lines, b""]) if lines else b""
    return block if precise else _COARSE.sub(rb"\1T00:00:00Z", block)


def events_of(portion: Portion, precise: bool) -> Iterator[Event]:
    """Yield the events of a portion."""
    for item in portion.data.splitlines() if isinstance(portion, Block) else portion:
        event: Event = json.loads(item) if isinstance(item, bytes) else item
        yield event if precise else coarse(event)


def valid_text(text: str) -> str:
    """Return a text with a question mark for each lone surrogate."""
    return text.encode("utf-8", "replace").decode()


# -- formats that are text -------------------------------------------------------------------


def as_jsonl(portions: Portions, precise: bool) -> Iterator[bytes]:
    """Yield one record a line, as stored."""
    for portion in portions:
        yield lines_of(portion, precise)


def as_json(portions: Portions, precise: bool) -> Iterator[bytes]:
    """Yield one array of records."""
    yield b"["
    comma = b"\n"
    for portion in portions:
        block = lines_of(portion, precise)
        if block:
            yield comma + block[:-1].replace(b"\n", b",\n")
            comma = b",\n"
    yield b"\n]\n"


def guarded(text: str) -> str:
    """Return a cell that is no formula in any spreadsheet: an apostrophe precedes each sign."""
    return _FORMULA.sub(r"\1\2'", text)


def as_csv(portions: Portions, precise: bool) -> Iterator[bytes]:
    """Yield a table with a heading, in UTF-8; mappings as JSON text, and ids with a prefix."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for portion in portions:
        for event in events_of(portion, precise):
            writer.writerow([cell(event.get(name), name) for name in FIELDS])
        yield buffer.getvalue().encode("utf-8", "backslashreplace")
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def cell(value: Any, name: str = "") -> str | int | float:
    """Return a value as a cell of a table.

    Args:
        value: the value.
        name: its field.
    """
    if value is None:
        return ""
    if name in _IDS:
        return f"{ID_PREFIX}{value}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return guarded(value) if isinstance(value, str) else guarded_json(json.dumps(value))


def event_of_row(row: dict[str, Any]) -> Event:
    """Return the event in a row of a table, as `as_csv` writes it.

    Args:
        row: its cells by heading.

    Raises:
        ValueError: a cell is not what this package writes.
    """
    event: Event = {}
    for name, text in row.items():
        if not text or name not in FIELDS:
            continue
        if name in _WHOLE:
            event[name] = int(text)
        elif name in _IDS:
            event[name] = text.removeprefix(ID_PREFIX)
        elif name in ("context", "metadata"):
            event[name] = json.loads(text)
        else:
            event[name] = _GUARD.sub(r"\1\2", text)
    return event


def guarded_json(text: str) -> str:
    """Return JSON text of the same value that is no formula in any spreadsheet.

    Args:
        text: JSON text in ASCII. Outside of its strings a sign begins a number, not a formula.
    """

    def escape(string: re.Match[str]) -> str:
        return _SIGN.sub(lambda sign: f"\\u{ord(sign[0]):04x}", string[0])

    return _STRING.sub(escape, text)


# -- OpenTelemetry ---------------------------------------------------------------------------


def as_otlp_json(portions: Portions, precise: bool, app: str) -> Iterator[bytes]:
    """Yield one `LogsData` message in the JSON encoding of OTLP 1.x."""
    scope = {"name": "telemetry_kit", "version": __version__}
    resource = {"attributes": [attribute("service.name", app)]}
    head = f'{{"resourceLogs":[{{"resource":{json.dumps(resource)},"scopeLogs":[{{"scope":'
    yield f'{head}{json.dumps(scope)},"logRecords":['.encode()
    comma = "\n"
    for portion in portions:
        made = [_compact(log_record(event)) for event in events_of(portion, precise)]
        if made:
            yield (comma + ",\n".join(made)).encode()
            comma = ",\n"
    yield b"\n]}]}]}\n"


# By the first word of an event type: the operation, and the field with the name of its agent. The
# conventions for generative AI name workflows as agents, and know neither hand-offs nor roles.
_OPERATIONS = {"agent": ("invoke_agent", "agent"), "workflow": ("invoke_workflow", "workflow")}


def log_record(event: Event) -> dict[str, Any]:
    """Return an event as a log record.

    Ids become attributes, because they have 48 bits and those of a trace 128 and 64.
    """
    failed = event["event_type"].endswith(".failed")
    at = nanoseconds(event["timestamp"])
    # A time outside the range of the field becomes an attribute.
    fits = 0 <= at < 2**64
    attributes = [] if fits else [attribute("telemetry.timestamp", event["timestamp"])]
    for name, value in event.items():
        if name in ("event_type", "timestamp"):
            continue
        if isinstance(value, dict):
            attributes += [attribute(f"telemetry.{name}.{k}", v) for k, v in value.items()]
        else:
            attributes.append(attribute(f"telemetry.{name}", value))
    operation, field = _OPERATIONS.get(event["event_type"].partition(".")[0], (None, ""))
    conventions = {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": event.get(field),
        "telemetry_kit.role": event.get("role"),
    }
    attributes += [attribute(key, value) for key, value in conventions.items() if value is not None]
    return {
        "timeUnixNano": str(at) if fits else "0",
        "severityNumber": 17 if failed else 9,
        "severityText": "ERROR" if failed else "INFO",
        "eventName": event["event_type"],
        "body": {"stringValue": event["event_type"]},
        "attributes": attributes,
    }


def nanoseconds(timestamp: str) -> int:
    """Return a stored time as nanoseconds since the epoch; negative before it."""
    from datetime import UTC, datetime, timedelta  # deferred: only this format needs it

    when = datetime.fromisoformat(timestamp)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def attribute(key: str, value: Any) -> dict[str, Any]:
    """Return an attribute of OpenTelemetry."""
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    text = value if isinstance(value, str) else json.dumps(value)
    return {"key": key, "value": {"stringValue": valid_text(text)}}


# -- formats that a database writes ----------------------------------------------------------

# DuckDB refuses lone surrogates. Escaped backslashes and pairs match first, as a group.
_LONE_SURROGATE = re.compile(
    rb"(\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|\\u[dD][89a-fA-F]\w\w"
)
_DUCKDB_OPTIONS: dict[str, Any] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "128MB",
    "threads": "1",
    "temp_directory": "",
}
_ROWS = 1_000
_DISK_ERRORS = (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO)


def sql_columns(whole: str, other: str) -> dict[str, str]:
    """Return the type of each column: one for whole numbers, another for all other values."""
    kinds = {row.name: row.kind for row in catalog.FIELDS.values()}
    return {name: whole if kinds.get(name) == catalog.MEASURE else other for name in FIELDS}


def write_sqlite(portions: Portions, precise: bool, path: str) -> None:
    """Write a SQLite database with one table, `events`.

    Args:
        portions: the events.
        precise: keep the times.
        path: an empty file.

    Raises:
        OSError: the file cannot be written.
    """
    import sqlite3  # deferred: only this format needs it

    columns = sql_columns("INTEGER", "TEXT")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # The caller renames the complete file, so SQLite needs no journal.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        spec = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        connection.execute(f"CREATE TABLE events ({spec})")
        marks = ", ".join("?" * len(columns))
        connection.execute("BEGIN")
        for portion in portions:
            rows = [
                [sql_value(event.get(name)) for name in columns]
                for event in events_of(portion, precise)
            ]
            connection.executemany(f"INSERT INTO events VALUES ({marks})", rows)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise OSError(f"SQLite reports: {error}") from None
    finally:
        connection.close()


def sql_value(value: Any) -> Any:
    """Return a value as SQLite stores it: mappings as JSON text."""
    if value is None or isinstance(value, int | float):
        return value
    return valid_text(value if isinstance(value, str) else json.dumps(value))


def write_parquet(portions: Portions, precise: bool, path: str) -> None:
    """Write a Parquet file, by DuckDB in bounded memory.

    Args:
        portions: the events.
        precise: keep the times.
        path: an empty file. The function makes a file beside it, and deletes it again.

    Raises:
        ModuleNotFoundError: DuckDB is not installed.
        OSError: the file cannot be written.
    """
    import duckdb  # deferred: a large library, and only this format needs it

    columns = {**sql_columns("BIGINT", "VARCHAR"), "timestamp": "TIMESTAMPTZ"}
    columns |= {"context": "JSON", "metadata": "JSON"}
    with NewFile(path) as beside:
        blocks = as_jsonl(portions, precise)
        with open(beside.fd, "wb", closefd=False) as out:
            out.writelines(_LONE_SURROGATE.sub(lambda m: m[1] or b"?", block) for block in blocks)
        connection = duckdb.connect(config=_DUCKDB_OPTIONS)
        spec = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
        quoted = [name.replace("'", "''") for name in (beside.path, path)]
        try:
            connection.execute(
                f"COPY (SELECT * FROM read_json('{quoted[0]}', format='newline_delimited', "
                f"columns={{{spec}}})) TO '{quoted[1]}' "
                "(FORMAT parquet, ROW_GROUP_SIZE 20000, USE_TMP_FILE false)"
            )
        except duckdb.Error as error:
            # An error of the disk is reported as one, in the words of the system.
            for number in _DISK_ERRORS:
                if os.strerror(number) in str(error):
                    raise OSError(number, os.strerror(number)) from None
            message = "DuckDB cannot make a Parquet file of these events; try --format sqlite"
            raise OSError(message) from None
        finally:
            connection.close()


def parquet_rows(path: str) -> Iterator[tuple[Any, ...]]:
    """Yield the metadata, the columns and the rows of a Parquet file.

    Args:
        path: the file.

    Raises:
        ModuleNotFoundError: DuckDB is not installed.
        ValueError: the file is damaged.
    """
    try:
        import duckdb  # deferred: as above
    except ModuleNotFoundError:
        hint = "it is a Parquet file, which needs DuckDB: pip install 'telemetry-kit[insights]'"
        raise ModuleNotFoundError(hint) from None

    pattern = glob.escape(os.path.abspath(path))
    try:
        with duckdb.connect(config=_DUCKDB_OPTIONS) as connection:
            for source in ("parquet_kv_metadata", "parquet_schema", "read_parquet"):
                found = connection.execute(f"SELECT * FROM {source}(?)", [pattern])
                while rows := found.fetchmany(_ROWS):
                    yield from rows
    except duckdb.Error as error:
        raise ValueError(f"DuckDB reports: {error}") from None


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Args:
        name: its name on the command line.
        endings: the endings of its files.
        stream: makes its bytes; None if a database writes the file.
        write: writes the file; None if there is a stream.
        names_app: the stream also takes the name of the app.
    """

    name: str
    endings: tuple[str, ...] = ()
    stream: Callable[..., Iterator[bytes]] | None = None
    write: Callable[[Portions, bool, str], None] | None = None
    names_app: bool = False

    def blocks(
        self, portions: Portions, precise: bool, app: str, is_gzip: bool = False
    ) -> Iterator[bytes]:
        """Return the bytes of its stream, for the events of an app, and compress them if asked."""
        assert self.stream is not None
        made = self.stream(portions, precise, *((app,) if self.names_app else ()))
        return gzipped(made) if is_gzip else made


def gzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Compress blocks; the same ones always yield the same bytes."""
    packer = zlib.compressobj(wbits=31)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


FORMATS = {
    row.name: row
    for row in (
        Format("json", (".json",), stream=as_json),
        Format("jsonl", (".jsonl", ".ndjson"), stream=as_jsonl),
        Format("csv", (".csv",), stream=as_csv),
        Format("parquet", (".parquet",), write=write_parquet),
        Format("sqlite", (".sqlite", ".sqlite3", ".db"), write=write_sqlite),
        Format("otlp-json", stream=as_otlp_json, names_app=True),
    )
}
DEFAULT = FORMATS["jsonl"]
GZIP = ".gz"


def format_of(path: str) -> Format | None:
    """Return the format that a file name asks for; None if its ending is unknown.

    Example:
        >>> format_of("events.csv.gz").name, format_of("events").name, format_of("events.txt")
        ('csv', 'jsonl', None)

    Args:
        path: the file. Without an ending, it gets the default format.
    """
    name = os.path.basename(path).lower()
    ending = os.path.splitext(name.removesuffix(GZIP))[1]
    if not ending:
        return None if name.endswith(GZIP) else DEFAULT
    return next((row for row in FORMATS.values() if ending in row.endings), None)


def is_gzip(path: str | None) -> bool:
    """Whether a file name asks for compression."""
    return path is not None and path.lower().endswith(GZIP)
