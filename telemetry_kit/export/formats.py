"""Export formats: each turns portions of events into bytes, one portion at a time.

The caller supplies the events and writes the bytes. A new format is one row in `FORMATS`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from telemetry_kit._version import __version__
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.selection import Block
from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import Event

Portion = list[bytes | Event] | Block
Portions = Iterator[Portion]

# What the seed's original also had, and a reader hands on.
COLUMNS = (*catalog.ORDER, "metadata")
_COARSE = re.compile(
    rb'^(\{"schema_version":"[^"]*","event_id":"[^"]*","event_type":"[^"]*","timestamp":"[^"T]{10})'
    rb'T[^"]*',
    re.MULTILINE,
)
_MIDNIGHT = "T00:00:00Z"
# What may begin a formula, in ASCII and full width, at the start of a cell and behind whatever
# some locale takes for the end of one. What nobody sees (control and format characters) may stand
# between: programs leave it out.
_UNSEEN = (
    "\\x00-\\x1f\\x7f-\\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
)
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(rf"(^|[;,\t|\r\n])([\s\"'{_UNSEEN}]*)(?=[{_SIGNS}])")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# Inside JSON text a sign can be written in another way, and says the same.
_SIGN = re.compile(r"(?<![A-Za-z0-9_/.])[=+\-@]")


def coarse(event: Event) -> Event:
    """An event with its time cut to the day."""
    return {**event, "timestamp": event["timestamp"][:10] + _MIDNIGHT}


def lines_of(portion: Portion, precise: bool) -> bytes:
    """A portion as JSON lines, each with its end.

    Args:
        portion: canonical lines, or events.
        precise: leave times as they are.
    """
    if isinstance(portion, Block):
        return portion.data
    if all(type(item) is bytes for item in portion):
        block = b"\n".join([*portion, b""]) if portion else b""  # type: ignore[list-item]
        return block if precise else _COARSE.sub(rb"\1T00:00:00Z", block)
    made = [_line(item, precise) for item in portion]
    return b"".join(made)


def _line(item: bytes | Event, precise: bool) -> bytes:
    if isinstance(item, bytes):
        return lines_of([item], precise)
    event = item if precise else coarse(item)
    return json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n"


def events_of(portion: Portion, precise: bool) -> Iterator[Event]:
    """A portion as events.

    Args:
        portion: canonical lines, or events.
        precise: leave times as they are.
    """
    for item in portion.data.splitlines() if isinstance(portion, Block) else portion:
        event: Event = json.loads(item) if isinstance(item, bytes) else item
        yield event if precise else coarse(event)


# -- formats that are text -------------------------------------------------------------------


def as_jsonl(portions: Portions, precise: bool) -> Iterator[bytes]:
    """One record a line, as stored."""
    for portion in portions:
        yield lines_of(portion, precise)


def as_json(portions: Portions, precise: bool) -> Iterator[bytes]:
    """One array of records."""
    yield b"["
    comma = b"\n"
    for portion in portions:
        block = lines_of(portion, precise)
        if block:
            yield comma + block[:-1].replace(b"\n", b",\n")
            comma = b",\n"
    yield b"\n]\n"


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before its sign."""
    return _FORMULA.sub(r"\1\2'", text)


def as_csv(portions: Portions, precise: bool) -> Iterator[bytes]:
    """A table with a heading, in UTF-8; mappings as JSON text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for portion in portions:
        for event in events_of(portion, precise):
            writer.writerow([_cell(event.get(name)) for name in COLUMNS])
        yield buffer.getvalue().encode("utf-8", "backslashreplace")
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return guarded(value) if isinstance(value, str) else guarded_json(json.dumps(value))


def guarded_json(text: str) -> str:
    """JSON text that no spreadsheet takes for a formula, and that says the same as before.

    Args:
        text: in ASCII. Outside of its strings a sign begins a number, which is no formula.
    """
    return _STRING.sub(lambda found: _SIGN.sub(_escaped, found[0]), text)


def _escaped(sign: re.Match[str]) -> str:
    return f"\\u{ord(sign[0]):04x}"


# -- OpenTelemetry ---------------------------------------------------------------------------

_INFO, _ERROR = 9, 17


def as_otlp_json(portions: Portions, precise: bool, app: str) -> Iterator[bytes]:
    """One `LogsData` message in the JSON encoding of OTLP 1.x, an event a log record.

    Args:
        portions: the events.
        precise: leave times as they are.
        app: the tool whose events they are.
    """
    scope = {"name": "telemetry_kit", "version": __version__}
    resource = {"attributes": [_attribute("service.name", app)]}
    head = (
        '{"resourceLogs":[{"resource":' + json.dumps(resource) + ',"scopeLogs":[{"scope":'
        f'{json.dumps(scope)},"logRecords":['
    )
    yield head.encode()
    comma = "\n"
    for portion in portions:
        made = [
            json.dumps(log_record(e), separators=(",", ":")) for e in events_of(portion, precise)
        ]
        if made:
            yield (comma + ",\n".join(made)).encode()
            comma = ",\n"
    yield b"\n]}]}]}\n"


def log_record(event: Event) -> dict[str, Any]:
    """One event as a log record.

    Ids stay attributes: ours are 48 random bits, not the 128 and 64 of a trace.

    Args:
        event: as the reader yields it.
    """
    failed = event["event_type"].endswith(".failed")
    at = nanoseconds(event["timestamp"])
    # A time that the field cannot hold is not known there, and is told as text.
    fits = 0 <= at < 2**64
    attributes = [] if fits else [_attribute("telemetry.timestamp", event["timestamp"])]
    for name, value in event.items():
        if name in ("event_type", "timestamp"):
            continue
        if isinstance(value, dict):
            attributes += [_attribute(f"telemetry.{name}.{k}", v) for k, v in value.items()]
        else:
            attributes.append(_attribute(f"telemetry.{name}", value))
    return {
        "timeUnixNano": str(at) if fits else "0",
        "severityNumber": _ERROR if failed else _INFO,
        "severityText": "ERROR" if failed else "INFO",
        "eventName": event["event_type"],
        "body": {"stringValue": event["event_type"]},
        "attributes": attributes,
    }


def nanoseconds(timestamp: str) -> int:
    """A stored time as nanoseconds since the epoch; negative before it."""
    from datetime import UTC, datetime, timedelta  # deferred: only this format counts seconds

    when = datetime.fromisoformat(timestamp)
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def _attribute(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    text = value if isinstance(value, str) else json.dumps(value)
    # A lone surrogate of an old file is no text that protobuf takes.
    return {"key": key, "value": {"stringValue": text.encode("utf-8", "replace").decode()}}


# -- formats that a database writes ----------------------------------------------------------


def _sql_columns(whole: str, real: str) -> dict[str, str]:
    found = {}
    for name in COLUMNS:
        row = catalog.FIELDS.get(name)
        found[name] = whole if row is not None and row.kind == catalog.MEASURE else real
    return found


def write_sqlite(portions: Portions, precise: bool, path: str) -> None:
    """A database with one table, `events`.

    Args:
        portions: the events.
        precise: leave times as they are.
        path: an empty file.

    Raises:
        OSError: it could not be written.
    """
    import sqlite3  # deferred: only this format needs it

    columns = _sql_columns("INTEGER", "TEXT")
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # The file is renamed when it is whole: no journal of its own is wanted beside it.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        spec = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        connection.execute(f"CREATE TABLE events ({spec})")
        marks = ", ".join("?" * len(columns))
        connection.execute("BEGIN")
        for portion in portions:
            rows = [
                [_sql_value(event.get(name)) for name in columns]
                for event in events_of(portion, precise)
            ]
            connection.executemany(f"INSERT INTO events VALUES ({marks})", rows)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise OSError(f"SQLite says: {error}") from None
    finally:
        connection.close()


def _sql_value(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _without_surrogates(block: bytes) -> bytes:
    """Lines in which a lone surrogate, which is no text that DuckDB takes, is a question mark."""
    made = (json.dumps(_text(json.loads(line))) for line in block.splitlines())
    return "".join(f"{line}\n" for line in made).encode("ascii")


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_text(key): _text(held) for key, held in value.items()}
    return [_text(held) for held in value] if isinstance(value, list) else value


def _refusal(told: str) -> OSError:
    """What DuckDB says, in the system's words where it is about the disk, else in our own."""
    import errno  # deferred: only trouble needs it
    import os  # deferred: as above

    for number in (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO):
        if os.strerror(number) in told:
            return OSError(number, os.strerror(number))
    return OSError("DuckDB cannot make a Parquet file of these events; try --format sqlite")


def write_parquet(portions: Portions, precise: bool, path: str) -> None:
    """A Parquet file, written by DuckDB in bounded memory.

    Args:
        portions: the events.
        precise: leave times as they are.
        path: an empty file; another one is made beside it and deleted again.

    Raises:
        ModuleNotFoundError: DuckDB is not installed.
        OSError: it could not be written.
    """
    import duckdb  # deferred: a large library, and only this format needs it

    columns = {**_sql_columns("BIGINT", "VARCHAR"), "context": "JSON", "metadata": "JSON"}
    with NewFile(path) as beside:
        with open(beside.fd, "wb", closefd=False) as out:
            out.writelines(
                _without_surrogates(block) if _SURROGATE.search(block) else block
                for block in as_jsonl(portions, precise)
            )
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": "128MB",
                "threads": "1",
                "temp_directory": "",
            }
        )
        spec = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
        quoted = [name.replace("'", "''") for name in (beside.path, path)]
        try:
            connection.execute(
                f"COPY (SELECT * FROM read_json('{quoted[0]}', format='newline_delimited', "
                f"columns={{{spec}}})) TO '{quoted[1]}' "
                "(FORMAT parquet, ROW_GROUP_SIZE 20000, USE_TMP_FILE false)"
            )
        except duckdb.Error as error:
            raise _refusal(str(error)) from None
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Args:
        name: as the user writes it.
        stream: makes its bytes; None where a database writes the file.
        write: writes the file; None where there is a stream.
        names_app: whether its stream takes the name of the tool as well.
    """

    name: str
    stream: Callable[..., Iterator[bytes]] | None = None
    write: Callable[[Portions, bool, str], None] | None = None
    names_app: bool = False

    def blocks(self, portions: Portions, precise: bool, app: str) -> Iterator[bytes]:
        """What its stream makes.

        Args:
            portions: the events.
            precise: leave times as they are.
            app: the tool whose events they are.
        """
        assert self.stream is not None
        more = (app,) if self.names_app else ()
        return self.stream(portions, precise, *more)


FORMATS = {
    made.name: made
    for made in (
        Format("json", stream=as_json),
        Format("jsonl", stream=as_jsonl),
        Format("csv", stream=as_csv),
        Format("parquet", write=write_parquet),
        Format("sqlite", write=write_sqlite),
        Format("otlp-json", stream=as_otlp_json, names_app=True),
    )
}
