"""The certificate: the checked files and the findings, without the found text itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from telemetry_kit.verification.encodings import FORMS

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
    """One thing that should not be.

    Args:
        layer: which of `LAYERS` found it.
        kind: what it is.
        file: the name of the file, never its path.
        line: its number from 1; 0 for the file as a whole.
        field: the field, where it is one of the schema.
        masked: first letter and length of the text, and no more of it.
    """

    layer: str
    kind: str
    file: str = ""
    line: int = 0
    field: str = ""
    masked: str = ""

    def sentence(self) -> str:
        """The finding in words."""
        place = self.file + (f":{self.line}" if self.line else "")
        parts = [place, f"{self.layer}: {self.kind}", self.field and f"in {self.field}"]
        return ", ".join(part for part in (*parts, self.masked) if part)


@dataclass(slots=True)
class Looked:
    """What was seen of one file.

    Args:
        file: its name.
        kind: `active`, `sealed`, `archive`, `record`, `history`, `names`, `key`, `given` ...
        size_bytes: as it is on disk.
        sha256: of the bytes on disk, or of what was unpacked for an archive; empty for a key,
            whose content stays out of every output.
        lines: all of them.
        events: canonical ones.
        blank: empty ones.
        torn: beginnings of a line, left by a process that was killed.
    """

    file: str
    kind: str
    size_bytes: int = 0
    sha256: str = ""
    lines: int = 0
    events: int = 0
    blank: int = 0
    torn: int = 0


@dataclass(slots=True)
class Certificate:
    """Everything that one run of `verify` has to say.

    Args:
        app: whose events.
        schema: version of the table of fields.
        notice: version of the notice.
        files: what was looked at.
        findings: what should not be; the first `MAX_LISTED`.
        found: how many there are of each layer.
        notes: what is worth knowing and no finding.
        unsearched: what could not be searched to its end, one sentence each.
        secrets: how many texts of each kind were looked for.
        set_aside: how many were not, because they are public words or too common.
        pseudonyms: how many different ones there are.
        capacity_bits: what a line can carry at most, by class of field.
        checks: the environment, as state and sentence.
    """

    app: str
    schema: str
    notice: int
    files: list[Looked] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    unsearched: list[str] = field(default_factory=list)
    secrets: dict[str, int] = field(default_factory=dict)
    set_aside: dict[str, int] = field(default_factory=dict)
    pseudonyms: int = 0
    capacity_bits: dict[str, float] = field(default_factory=dict)
    checks: list[dict[str, str]] = field(default_factory=list)
    _last: dict[Finding, None] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Take in a finding, once; of millions only the first are kept, and all are counted."""
        if finding in self._last:
            return
        self._last[finding] = None
        if len(self._last) > MAX_LISTED:
            del self._last[next(iter(self._last))]
        self.found[finding.layer] += 1
        if len(self.findings) < MAX_LISTED:
            self.findings.append(finding)

    @property
    def total(self) -> int:
        """How many findings there are."""
        return self.found.total()

    @property
    def passed(self) -> bool:
        """Whether everything was searched and nothing was found."""
        return not self.total and not self.unsearched

    def counts(self) -> dict[str, int]:
        """Findings of each layer."""
        return {layer: self.found[layer] for layer in LAYERS}

    def as_json(self) -> dict[str, Any]:
        """The certificate for programs."""
        return {
            "certificate": VERSION,
            "passed": self.passed,
            "app": self.app,
            "schema": self.schema,
            "notice": self.notice,
            "events": sum(looked.events for looked in self.files),
            "findings_by_layer": self.counts(),
            "capacity_bits_per_line": self.capacity_bits,
            "pseudonyms": self.pseudonyms,
            "secrets_looked_for": self.secrets,
            "secrets_set_aside": self.set_aside,
            "forms_looked_for": list(FORMS),
            "files": [asdict(looked) for looked in self.files],
            "environment": self.checks,
            "notes": self.notes,
            "unsearched": self.unsearched,
            "findings": [asdict(finding) for finding in self.findings],
            "findings_not_listed": self.total - len(self.findings),
        }


def masked(text: str) -> str:
    """First letter and length of a text: enough to know it again, not to learn it."""
    if not text:
        return ""
    first = text[0] if text[0].isalnum() and text[0].isascii() else "."
    return f"{first}... ({len(text)} characters)"
