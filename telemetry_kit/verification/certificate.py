"""The certificate: the checked files and the findings, without the texts that were found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from telemetry_kit.verification.search import FORMS

GRAMMAR, PROVENANCE, KNOWN, RECOGNISERS, ENVIRONMENT = LAYERS = (
    "grammar",
    "provenance",
    "known secrets",
    "recognisers",
    "environment",
)
VERSION = 1
MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of the promises.

    Args:
        layer: the layer that found it, one of `LAYERS`.
        kind: what is wrong.
        file: the name of the file, without its path.
        line: the number of the line from 1; 0 for the file as a whole.
        field: the field of the schema, if the text is in one.
        masked: the first letter and the length of the text.
    """

    layer: str
    kind: str
    file: str = ""
    line: int = 0
    field: str = ""
    masked: str = ""

    def sentence(self) -> str:
        """Return the finding in words."""
        place = self.file + (f":{self.line}" if self.line else "")
        parts = [place, f"{self.layer}: {self.kind}", self.field and f"in {self.field}"]
        return ", ".join(part for part in (*parts, self.masked) if part)


@dataclass(slots=True)
class CheckedFile:
    """The counts of one file.

    Args:
        file: its name.
        kind: `active`, `sealed`, `archive`, `record`, `history`, `names`, `key`, `given` ...
        size_bytes: its size on disk.
        sha256: the SHA-256 of its bytes on disk; empty for a key.
        lines: all lines.
        events: canonical events.
        blank: empty lines.
        torn: beginnings of lines, left by killed processes.
        inside: files inside it, if it is an archive.
        other_version: lines whose schema version is unknown, so that only their text is searched.
    """

    file: str
    kind: str
    size_bytes: int = 0
    sha256: str = ""
    lines: int = 0
    events: int = 0
    blank: int = 0
    torn: int = 0
    inside: int = 0
    other_version: int = 0

    def add(self, part: CheckedFile) -> None:
        """Add the counts of a part of the file."""
        self.lines += part.lines
        self.events += part.events
        self.blank += part.blank
        self.torn += part.torn
        self.other_version += part.other_version


@dataclass(slots=True)
class Certificate:
    """The result of one run of `verify`.

    Args:
        app: the name of the app.
        schema: the version of the schema.
        notice: the version of the notice.
        files: the checked files.
        findings: the first `MAX_LISTED` findings.
        found: the number of findings of each layer.
        notes: remarks that are no findings.
        unsearched: what the run could not search completely, one sentence each.
        secrets: the number of texts of each kind that the run searched for.
        set_aside: the number of texts that are public words or too common to search for.
        pseudonyms: the number of different pseudonyms.
        capacity_bits: the bits that one line can hold at most, by class of field.
        checks: the checks of the environment, each with its state.
    """

    app: str
    schema: str
    notice: int
    files: list[CheckedFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    unsearched: list[str] = field(default_factory=list)
    secrets: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    pseudonyms: int = 0
    capacity_bits: dict[str, float] = field(default_factory=dict)
    checks: list[dict[str, str]] = field(default_factory=list)
    _recent: dict[Finding, None] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count a finding, unless it is one of the last `MAX_LISTED`, and list the first ones."""
        if finding in self._recent:
            return
        self._recent[finding] = None
        if len(self._recent) > MAX_LISTED:
            del self._recent[next(iter(self._recent))]
        self.found[finding.layer] += 1
        if len(self.findings) < MAX_LISTED:
            self.findings.append(finding)

    @property
    def total(self) -> int:
        """The number of findings."""
        return self.found.total()

    @property
    def events(self) -> int:
        """The number of canonical events in all files."""
        return sum(checked.events for checked in self.files)

    @property
    def passed(self) -> bool:
        """Whether everything was searched and nothing was found."""
        return not self.total and not self.unsearched

    def as_json(self) -> dict[str, Any]:
        """Return the certificate for programs."""
        return {
            "certificate": VERSION,
            "passed": self.passed,
            "app": self.app,
            "schema": self.schema,
            "notice": self.notice,
            "events": self.events,
            "findings_by_layer": {layer: self.found[layer] for layer in LAYERS},
            "capacity_bits_per_line": self.capacity_bits,
            "pseudonyms": self.pseudonyms,
            "secrets_looked_for": self.secrets,
            "secrets_set_aside": self.set_aside,
            "forms_looked_for": list(FORMS),
            "files": [asdict(checked) for checked in self.files],
            "environment": self.checks,
            "notes": self.notes,
            "unsearched": self.unsearched,
            "findings": [asdict(finding) for finding in self.findings],
            "findings_not_listed": self.total - len(self.findings),
        }


def masked(text: str) -> str:
    """Return the first letter and the length of a text, which identify it only to its owner."""
    if not text:
        return ""
    first = text[0] if text[0].isalnum() and text[0].isascii() else "."
    return f"{first}... ({len(text)} characters)"
