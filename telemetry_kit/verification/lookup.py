"""Find one text in the data of one project: in plain text, or as a pseudonym of the current key.

The text itself is never written. The pseudonyms of deleted keys cannot be searched for it.
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

# Ids that another program may give, stored as hex digits.
OUTSIDE_IDS = ("session_id", "parent_id")
# The forms of a text that `find` searches for.
FORMS = ("plain", "pseudonym", "part of a longer text")


@dataclass(slots=True)
class Matches:
    """The events that hold a text.

    Args:
        plain: events that hold it in plain text, by field.
        pseudonyms: events that hold its pseudonym, by field.
        types: all those events, by type.
        other_keys: events with pseudonyms of other keys, in which it cannot be found.
        parts: events in which it is part of a longer text, which `forget` does not delete.
        is_declared: the tool declared it, so new events may hold it in plain text.
        unread: files that could not be read completely, each with the reason.
    """

    plain: Counter[str] = field(default_factory=Counter)
    pseudonyms: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    other_keys: int = 0
    parts: int = 0
    is_declared: bool = False
    unread: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        """The number of events that hold it."""
        return self.types.total()


class Lookup:
    """One text in every form in which this project may hold it.

    Args:
        paths: the paths of the project.
        text: the text to find.

    Raises:
        ConsentError: the key that names the project directory cannot be used.
        UnsafeFileError: the file of declared names cannot be trusted.
    """

    def __init__(self, paths: ProjectPaths, text: str) -> None:
        self._paths = paths
        self._text = text
        self._bytes = text.encode("utf-8", "surrogatepass")
        # As a JSON string of ours holds it.
        self._escaped = encode({"": text})[5:-3].lower()
        self._vocabulary = vocabulary.of(paths)
        self._pseudonyms: dict[str, set[str]] = {}
        self._own: tuple[int, str] | None = None
        key = keys.current(projects.ProjectDirs.of(paths))
        if key is not None:
            self._own = (key.epoch, key.pseudonym("project_id", paths.root))
            context = [f"context.{name}" for name in self._vocabulary.context]
            for name in (*catalog.NAMES, "project_id", *context):
                self._pseudonyms[name] = {key.pseudonym(name, text)}
            for name in OUTSIDE_IDS:
                self._pseudonyms[name] = {key.outside_id(name, text)}
            self._pseudonyms["span_id"] = self._pseudonyms["parent_id"]
            if "/" in text:
                path = os.path.realpath(text)
                self._pseudonyms["project_id"].add(key.pseudonym("project_id", path))

    def count(self) -> Matches:
        """Count the stored events that hold the text."""
        found = Matches(is_declared=self._text in self._vocabulary.strings())
        problems = ReadReport()
        for event in read(self._paths, problems):
            plain, pseudonyms = self.fields_of(event)
            found.plain.update(plain)
            found.pseudonyms.update(pseudonyms)
            # The epoch does not identify a key: a project that was moved has a first key again.
            # The pseudonym of the project does.
            key = (event.get("key_epoch"), event.get("project_id"))
            if plain or pseudonyms:
                found.types[event["event_type"]] += 1
                continue
            found.parts += self._escaped in encode(event).lower()
            found.other_keys += key not in ((None, None), self._own)
        found.unread = [
            f"{name}: {why}" for name, report in problems.files.items() if (why := report.unread())
        ]
        return found

    def keeps(self, line: bytes) -> bool:
        """Return whether a stored line does not hold the text, so that `forget` keeps it.

        Args:
            line: a line without its end.
        """
        event = parse(line)
        events: Iterable[dict[str, Any]] = [event] if event is not None else recovered_events(line)
        if any(any(self.fields_of(event)) for event in events):
            return False
        # A line that is no event may hold the text anywhere.
        return event is not None or not (self._bytes in line or self._escaped in line.lower())

    def fields_of(self, event: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Return the fields that hold the text in plain text, and those that hold its pseudonym."""
        values = list(event.items())
        for name, value in event.items():
            if isinstance(value, dict):
                values += ((f"{name}.{key}", given) for key, given in value.items())
        plain = [name for name, value in values if value == self._text]
        pseudonyms = [
            name
            for name, value in values
            if type(value) is str
            and value != self._text
            and value in self._pseudonyms.get(name, ())
        ]
        return plain, pseudonyms
