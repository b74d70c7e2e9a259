"""Record what a coding agent reports to a hook: at most one event.

The start of a command or sub-agent leaves an entry in `pending`, by which its end is found.
"""

from __future__ import annotations

from telemetry_kit.agents import pending
from telemetry_kit.agents.formats import CANCELLED, ERROR, INVOKERS, OK, PROMPT, parse
from telemetry_kit.context import new_id, place
from telemetry_kit.errors import Refused, TelemetryError
from telemetry_kit.files import private
from telemetry_kit.recording import pipeline
from telemetry_kit.recording.recorder import recorder_for
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from telemetry_kit.agents.formats import Report
    from telemetry_kit.agents.pending import Entry, Fields
    from telemetry_kit.recording.recorder import Recorder

    EventDict = dict[str, Any]

# How much of the log is searched for what ends.
TAIL_BYTES = 65_536
# The name of a sub-agent in the field of a later hand-off: each field has its own pseudonyms.
AS_SOURCE = "as_source"
# The type of the first event of each family, and the fields of its events.
_STARTS = {
    "command": ("command.executed", ("role", "command")),
    "agent": ("agent.invoked", ("role", "agent", "command")),
    "handoff": ("handoff.clicked", ("role", "source_agent", "target_agent", "command")),
}
_IDS = ("session_id", "span_id", "parent_id")
_HEX = frozenset("0123456789abcdef")


def record(report: Report, project: str | None) -> None:
    """Record a report where recording is on.

    Args:
        report: the facts of the payload.
        project: a directory in the project; None for the working directory.
    """
    start = place(project)
    metadata = pipeline.EventMetadata("hook", None, start=start)
    span = Span(report)

    def drive(event: EventDict) -> EventDict:
        # Names and IDs are stored under the key of this attempt.
        recorder = recorder_for(start)
        given, stored = span.event(recorder)
        event = {**event, **given}
        for processor in pipeline.PROCESSORS[:-1]:
            event = processor(None, "info", event)
        for field, value in stored.items():
            if field not in recorder.uncovered:
                event[field] = value
        metadata.line_format = None  # made before these fields
        return pipeline.write(None, "info", event)

    span.finish(pipeline.emit({"_metadata": metadata}, drive) is not None)


class Span:
    """The command or sub-agent of one report, whose event one attempt after another makes.

    Args:
        report: the facts of the payload.
    """

    __slots__ = ("_ended", "_entry", "_report")

    def __init__(self, report: Report) -> None:
        self._report = report
        # The entry that this process made or locked, and what the locked one contains.
        self._entry: Entry | None = None
        self._ended: tuple[int | None, Fields] | None = None

    def event(self, recorder: Recorder) -> tuple[EventDict, EventDict]:
        """Make the event: the fields for the processors, and those that are stored as they are.

        Raises:
            Refused: nothing is recorded for this report.
        """
        report = self._report
        dirs = recorder.cached.decision.dirs
        if dirs is None:
            raise Refused("there is no directory for what is running")
        running = pending.entries(dirs.state)
        session = recorder.key.outside_id("session_id", report.session) if report.session else ""
        given: EventDict = {}
        if not report.outcome:
            fields = self._start(recorder, running, session)
            family = "handoff" if "target_agent" in fields else report.field
            given["event"] = _STARTS[family][0]
            entry = pending.entry(dirs.state, report.field, fields)
            if self._entry is None or self._entry.name != entry.name:
                if not entry.start(fields):
                    raise Refused("it has started already")
                self._entry = entry
        else:
            given["duration_ms"], fields = self._end(recorder, running, session)
            given["outcome"] = report.outcome
            is_handoff = "target_agent" in fields and report.outcome == OK
            family = "handoff" if is_handoff else report.field
            given["event"] = f"{family}.{'completed' if report.outcome == OK else 'failed'}"
        stored = {f: fields[f] for f in (*_STARTS[family][1], *_IDS) if fields.get(f)}
        stored["invoker"] = INVOKERS.get(report.agent, report.agent)
        if report.outcome == ERROR:
            stored["error_type"] = report.error if report.error in catalog.FAILURES else "other"
        return given, stored

    def finish(self, is_recorded: bool) -> None:
        """Keep an entry only of what is running: delete that of what has ended.

        Args:
            is_recorded: whether the event was written.
        """
        if self._entry is not None:
            if is_recorded == bool(self._report.outcome):
                self._entry.end()
            self._entry.unlock()

    def _start(self, recorder: Recorder, running: list[Entry], session: str) -> Fields:
        """Find the fields that the first and the last event share."""
        report = self._report
        fields: Fields = {"session_id": session, "span_id": self._id(recorder) or new_id()}
        if report.name:
            fields[report.field] = pipeline.stored_name(recorder, report.field, report.name)
        if report.field == "command":
            if report.subject == PROMPT and fields["command"] != report.name:
                raise Refused("the first word of the prompt is no declared command")
            from telemetry_kit.agents import roles  # deferred: only if a command starts

            role = roles.role_of(report.name, recorder.cached.paths)
            if role is not None:
                fields["role"] = pipeline.stored_name(recorder, "role", role)
            if not report.prompt:
                for former in of_session(running, "command", session):
                    former.end()  # its turn is over, without a report
            return fields
        above = with_span(running, "agent", self._id(recorder, report.parent))
        parent = above or last(of_session(running, "command", session))
        around = {} if parent is None else parent.read()[1]
        if parent is not None:
            fields["parent_id"] = parent.span
            # The sub-agents of a sub-agent of Copilot have a session of their own.
            fields["session_id"] = parent.session
        fields.update({field: around[field] for field in ("role", "command") if field in around})
        if report.name:
            fields[AS_SOURCE] = pipeline.stored_name(recorder, "source_agent", report.name)
            if AS_SOURCE in around:
                fields["source_agent"] = around[AS_SOURCE]
                fields["target_agent"] = pipeline.stored_name(recorder, "target_agent", report.name)
        return fields

    def _end(
        self, recorder: Recorder, running: list[Entry], session: str
    ) -> tuple[int | None, Fields]:
        """Find the duration, if it is known, and the fields of what ends; lock its entry.

        Raises:
            Refused: it has ended already, another process records its end, or it is unknown.
        """
        if self._ended is not None:
            return self._ended
        report = self._report
        entry = self._find(recorder, running, session)
        if entry is not None and entry.lock():
            self._entry = entry
            self._ended = entry.read()
        else:
            self._ended = None, self._logged(recorder, session)
        fields = self._ended[1]
        for field in list(fields):
            if not is_stored(recorder, field, fields[field]):
                del fields[field]
        if report.name and report.field not in fields:
            fields[report.field] = pipeline.stored_name(recorder, report.field, report.name)
        return self._ended

    def _find(self, recorder: Recorder, running: list[Entry], session: str) -> Entry | None:
        """Find the entry of what ends."""
        report = self._report
        span = self._id(recorder)
        if span:
            return with_span(running, report.field, span)
        found = of_session(running, report.field, session)
        if report.field == "command":
            return last(found)
        found = [entry for entry in found if entry.span != self._id(recorder, report.parent)]
        if report.name:
            name = pipeline.stored_name(recorder, report.field, report.name)
            found = [entry for entry in found if entry.read()[1].get("agent") == name]
        elif not found:
            raise Refused("no sub-agent is running")
        elif len(found) > 1 and report.outcome != CANCELLED:
            return None  # one of them has failed, and its name is not known
        return found[0] if found else None

    def _logged(self, recorder: Recorder, session: str) -> Fields:
        """Find the fields of what ends in the log.

        Raises:
            Refused: it has ended already, or is a command that is not found.
        """
        span = self._id(recorder)
        family = "command." if self._report.field == "command" else ""
        known: Fields | None = None
        if span or (family and session):
            member = f'"span_id":"{span}"' if span else f'"session_id":"{session}"'
            known = last_event(recorder.cached.paths.log, member.encode(), family.encode())
        if known is None:
            if family:
                raise Refused("the command is not known")
            return {"session_id": session, "span_id": span}
        if known["event_type"] not in [event for event, _ in _STARTS.values()]:
            raise Refused("it has ended already")
        return known

    def _id(self, recorder: Recorder, given: str | None = None) -> str:
        """Return the ID of a span as it is stored; empty if the agent gives none."""
        report = self._report
        if given is None:
            given = report.agent_id if report.field == "agent" else report.prompt
        return recorder.key.outside_id("parent_id", given) if given else ""


def of_session(running: list[Entry], kind: str, session: str) -> list[Entry]:
    """Return what is running in a session, oldest first."""
    return [e for e in running if session and e.kind == kind and e.session == session]


def with_span(running: list[Entry], kind: str, span: str) -> Entry | None:
    """Return what has a span, in any session; None if it is not running."""
    return next((e for e in running if e.kind == kind and e.span == span), None)


def last(running: list[Entry]) -> Entry | None:
    """Return the one that started last."""
    return running[-1] if running else None


def is_stored(recorder: Recorder, field: str, value: str) -> bool:
    """Whether a value from a file is an ID, a pseudonym, or a name that events may contain."""
    digits = value.removeprefix(catalog.PSEUDONYM_PREFIX) if field in catalog.NAMES else value
    if len(digits) == 12 and _HEX.issuperset(digits):
        return field in _IDS or digits != value
    try:
        return field in catalog.NAMES and recorder.names_file.has(catalog.NAMES[field], value)
    except (OSError, TelemetryError):
        return False


def last_event(log: str, member: bytes, family: bytes) -> Fields | None:
    """Return the last event with a member near the end of the log; None if there is none.

    Args:
        log: the log.
        member: a key and its value, as they are in a line.
        family: the beginning of the event's type.
    """
    tail = private.read(log, TAIL_BYTES, last=True) or b""
    for line in reversed(tail.split(b"\n")):
        if member in line and b'"event_type":"' + family in line and line[:1] == b"{":
            return {f: v for f, v in parse(line).items() if type(v) is str}
    return None
