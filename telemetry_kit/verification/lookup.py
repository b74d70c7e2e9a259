"""Find one text in the data of one project: in plain text, or as a pseudonym of the current key.

The text is never written. Lines of other keys cannot be searched for it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import keys, projects
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage.parser import parse, recovered_events
from telemetry_kit.storage.reader import read
from telemetry_kit.storage.segments import ReadReport
from telemetry_kit.verification import vocabulary

# Ids that another program may give, which are stored as hex digits.
OUTSIDE_IDS = ("session_id", "parent_id")
# The forms of a text that are looked for.
FORMS = ("plain", "pseudonym", "part of a longer text")


@dataclass(slots=True)
class Found:
    """In how many events a text is.

    Args:
        clear: events that hold it in clear, by field.
        coded: events that hold its pseudonym, by field.
        types: all those events, by type.
        retired: events made with other keys than the one in force, of which nobody can tell.
        parts: events in which it is a part of a longer text, which `forget` leaves.
        in_ledger: whether the tool has declared it: new events may hold it in clear again.
        unread: files that could not be read to their end, each with the reason.
    """

    clear: Counter[str] = field(default_factory=Counter)
    coded: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    retired: int = 0
    parts: int = 0
    in_ledger: bool = False
    unread: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many events hold it."""
        return self.types.total()


class Lookup:
    """A text with every form in which it may be stored here.

    Args:
        home: the project's places.
        text: what is looked for.

    Raises:
        ConsentError: the directory key cannot be used.
        UnsafeFileError: the names ledger cannot be trusted.
    """

    def __init__(self, home: ProjectPaths, text: str) -> None:
        self._home = home
        self._text = text
        self._bytes = text.encode("utf-8", "surrogatepass")
        # As a JSON string of ours holds it.
        self._escaped = encode({"": text})[5:-3].lower()
        self._vocabulary = vocabulary.of(home)
        self._key = keys.current(projects.ProjectDirs.of(home))
        self._codes = self._pseudonyms()
        key = self._key
        self._own = key and (key.epoch, key.pseudonym("project_id", home.root))

    def _pseudonyms(self) -> dict[str, frozenset[str]]:
        """For each field the pseudonyms that the text has there."""
        key = self._key
        if key is None:
            return {}
        fields = [*catalog.NAMES, "project_id"]
        fields += [f"context.{name}" for name in self._vocabulary.context]
        found = {name: {key.pseudonym(name, self._text)} for name in fields}
        found.update((name, {key.outside_id(name, self._text)}) for name in OUTSIDE_IDS)
        if "/" in self._text:
            found["project_id"].add(key.pseudonym("project_id", os.path.realpath(self._text)))
        return {name: frozenset(codes) for name, codes in found.items()}

    def count(self) -> Found:
        """In how many stored events the text is."""
        found = Found(in_ledger=self._text in self._vocabulary.strings())
        problems = ReadReport()
        for event in read(self._home, problems):
            clear, coded = self._fields(event)
            found.clear.update(clear)
            found.coded.update(coded)
            if clear or coded:
                found.types[event["event_type"]] += 1
            elif self._escaped in encode(event).lower():
                found.parts += 1
            found.retired += not (clear or coded or self._knows(event))
        told = problems.files.items()
        found.unread = [f"{name}: {report.stopped}" for name, report in told if report.stopped]
        return found

    def _knows(self, event: dict[str, Any]) -> bool:
        """Whether the pseudonyms of an event, if it has any, are those of the key in force.

        The epoch does not say so: a project that was moved has a first key again. Its own
        pseudonym does, which no other key makes.
        """
        if "key_epoch" not in event and "project_id" not in event:
            return True
        return (event.get("key_epoch"), event.get("project_id")) == self._own

    def keeps(self, line: bytes) -> bool:
        """Whether a stored line does not hold the text, so that it may stay.

        Args:
            line: without its end.
        """
        event = parse(line)
        events: Iterable[dict[str, Any]] = [event] if event is not None else recovered_events(line)
        if any(any(self._fields(event)) for event in events):
            return False
        # What is no event may hold it anywhere.
        return event is not None or not (self._bytes in line or self._escaped in line.lower())

    def _fields(self, event: dict[str, Any]) -> tuple[list[str], list[str]]:
        """The fields that hold the text in clear, and those that hold its pseudonym."""
        clear: list[str] = []
        coded: list[str] = []
        for name, value in _values(event):
            if value == self._text:
                clear.append(name)
            elif type(value) is str and value in self._codes.get(name, ()):
                coded.append(name)
        return clear, coded


def _values(event: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in event.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", given) for key, given in value.items())
        else:
            yield name, value
