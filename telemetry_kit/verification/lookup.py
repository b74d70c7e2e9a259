"""Find texts in the data of one project: in plain text, or as a pseudonym of the current key.

A text itself is never written. The pseudonyms of deleted keys cannot be searched for it.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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


# The spellings of a text that it searches for, because a pseudonym has no letter case.
SPELLINGS = ("as typed", "stripped", "lower case", "upper case", "title case")
Field = tuple[str, bool, set[int]]


@dataclass(slots=True)
class Matches:
    """The events that hold one text, or any of several.

    Args:
        plain: events that hold it in plain text, by field.
        pseudonyms: events that hold its pseudonym, by field.
        types: all those events, by type.
        other_keys: events with pseudonyms of other keys, in which it cannot be found.
        parts: events in which it is part of a longer text, which `forget` does not delete.
        is_declared: the tool declared it, so new events may hold it in plain text.
        unread: files that could not be read completely, each with the reason.
        of_lines: the matches of each text, by the number of its line.
    """

    plain: Counter[str] = field(default_factory=Counter)
    pseudonyms: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    other_keys: int = 0
    parts: int = 0
    is_declared: bool = False
    unread: list[str] = field(default_factory=list)
    of_lines: dict[int, Matches] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """The number of events that hold it."""
        return self.types.total()

    def add(self, event: dict[str, Any], fields: Iterable[Field]) -> None:
        """Count an event, whose fields hold the text."""
        for name, is_plain, _ in fields:
            (self.plain if is_plain else self.pseudonyms)[name] += 1
        self.types[event["event_type"]] += 1


class Lookup:
    """Some texts in every form and spelling in which this project may hold them.

    Args:
        paths: the paths of the project.
        texts: the texts to find, by the number of their line. None is blank.

    Raises:
        ConsentError: the key that names the project directory cannot be used.
        UnsafeFileError: the file of declared names cannot be trusted.
    """

    def __init__(self, paths: ProjectPaths, texts: Mapping[int, str]) -> None:
        self._paths = paths
        self._numbers = list(texts)
        self._vocabulary = vocabulary.of(paths)
        # The numbers of the texts, by spelling, and by pseudonym for each field.
        self._plain: defaultdict[str, set[int]] = defaultdict(set)
        self._pseudonyms: defaultdict[str, defaultdict[str, set[int]]]
        self._pseudonyms = defaultdict(lambda: defaultdict(set))
        # As a JSON string of ours holds it, in lower case.
        self._escaped: defaultdict[bytes, set[int]] = defaultdict(set)
        self._own: tuple[int, str | None] | None = None
        key = keys.current(projects.ProjectDirs.of(paths))
        if key is not None:
            self._own = (key.epoch, key.project_id(paths))
        for number, text in texts.items():
            for spelling in spellings(text):
                self._plain[spelling].add(number)
                self._escaped[encode({"": spelling.strip()})[5:-3].lower()].add(number)
                if key is not None:
                    self._add_pseudonyms(key, spelling, number)
            if key is not None and "/" in text:
                for path in (text, text.strip()):
                    code = key.pseudonym("project_id", os.path.realpath(path))
                    self._pseudonyms["project_id"][code].add(number)

    def _add_pseudonyms(self, key: keys.Key, text: str, number: int) -> None:
        context = [f"context.{name}" for name in self._vocabulary.context]
        for name in (*catalog.NAMES, "project_id", *context):
            code = key.pseudonym(name, text)
            # If an export of this project is imported, that is a name, too.
            for stored in (code, key.pseudonym(name, code)):
                self._pseudonyms[name][stored].add(number)
        for name in OUTSIDE_IDS:
            code = key.outside_id(name, text)
            for stored in (code, key.outside_id(name, code)):
                self._pseudonyms[name][stored].add(number)
        self._pseudonyms["span_id"] = self._pseudonyms["parent_id"]

    def count(self) -> Matches:
        """Count the stored events that hold any of the texts, and those that hold each one."""
        found = Matches(of_lines={number: Matches() for number in self._numbers})
        for text in self._plain.keys() & self._vocabulary.strings():
            found.is_declared = True
            for number in self._plain[text]:
                found.of_lines[number].is_declared = True
        problems = ReadReport()
        for event in read(self._paths, problems):
            fields = list(self.fields_of(event))
            # The epoch does not identify a key: a project that was moved has a first key again.
            # The pseudonym of the project does.
            key = (event.get("key_epoch"), event.get("project_id"))
            if fields:
                found.add(event, fields)
            else:
                found.other_keys += key not in ((None, None), self._own)
            in_fields = set[int]().union(*(numbers for _, _, numbers in fields))
            for number in in_fields:
                held = (held for held in fields if number in held[2])
                found.of_lines[number].add(event, held)
            stored = encode(event).lower()
            parts = set[int]().union(*(n for text, n in self._escaped.items() if text in stored))
            found.parts += bool(parts) and not fields
            for number in parts - in_fields:
                found.of_lines[number].parts += 1
        found.unread = [
            f"{name}: {why}" for name, report in problems.files.items() if (why := report.unread())
        ]
        return found

    def keeps(self, line: bytes) -> bool:
        """Return whether a stored line holds none of the texts, so that `forget` keeps it.

        Args:
            line: a line without its end.
        """
        event = parse(line)
        events: Iterable[dict[str, Any]] = [event] if event is not None else recovered_events(line)
        if any(True for event in events for _ in self.fields_of(event)):
            return False
        if event is not None:
            return True
        # A line that is no event may hold a text anywhere.
        plain = (text.encode("utf-8", "surrogatepass") in line for text in self._plain)
        return not any(plain) and not any(text in line.lower() for text in self._escaped)

    def fields_of(self, event: dict[str, Any]) -> Iterator[Field]:
        """Yield the fields that hold a text: the name, whether in plain text, and which texts."""
        values = list(event.items())
        for name, value in event.items():
            if isinstance(value, dict):
                values += ((f"{name}.{key}", given) for key, given in value.items())
        for name, value in values:
            if type(value) is not str:
                continue
            if value in self._plain:
                yield name, True, self._plain[value]
            elif name in self._pseudonyms and value in self._pseudonyms[name]:
                yield name, False, self._pseudonyms[name][value]


def spellings(text: str) -> list[str]:
    """Return the spellings in `SPELLINGS` of a text, each in three Unicode forms.

    Args:
        text: the text, as typed.
    """
    stripped = text.strip()
    found = (text, stripped, stripped.lower(), stripped.upper(), stripped.title())
    forms: tuple[Literal["NFC", "NFD", "NFKC"], ...] = ("NFC", "NFD", "NFKC")
    normalised = (unicodedata.normalize(form, spelling) for form in forms for spelling in found)
    return list(dict.fromkeys((*found, *normalised)))
