"""`telemetry-kit verify`: check all stored data in five layers and print a report.

A finding is never printed in full, only its kind, position, first letter and length.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.commands import doctor
from telemetry_kit.cli.output import CommandError, counted, in_bytes, width
from telemetry_kit.cli.registry import COMMANDS
from telemetry_kit.cli.tables import Column, display_width, fold, table
from telemetry_kit.consent import changes, policy
from telemetry_kit.errors import TelemetryError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.verification.certificate import (
    ENVIRONMENT,
    LAYERS,
    Certificate,
    Finding,
)
from telemetry_kit.verification.search import FORMS
from telemetry_kit.verification.verify import Verification, baseline

# A pipe takes lines of any length.
MAX_PIPE_WIDTH = 1 << 20
# The first digits of a hash that a terminal shows. `--json` has all of them.
DIGITS = 12


def run(project: str | None, files: Sequence[str], as_json: bool) -> None:
    """Check all stored data against the schema; exit with 1 if there is a finding.

    Raises:
        CommandError: there is a finding, or a file could not be checked.
    """
    paths = changes.paths_of(project)
    try:
        known = baseline(paths, runtime.environ, os.getcwd())
        help_texts = [f"{name} {text}" for _, name, text in COMMANDS]
        certificate = Verification(known, help_texts).run(files)
    except (TelemetryError, OSError) as error:
        raise CommandError(f"not everything could be checked: {error}") from None
    check_environment(paths, certificate)
    if as_json:
        print(json.dumps(certificate.as_json()))
    else:
        columns = width() if sys.stdout.isatty() else MAX_PIPE_WIDTH
        for line in lines(certificate, columns):
            print(line)
    if not certificate.passed:
        raise CommandError("; ".join(failures(certificate)))


def check_environment(paths: ProjectPaths, certificate: Certificate) -> None:
    """Check the fifth layer: the checks of `doctor`, and whether the consent is for this notice."""
    for found in doctor.check_all(paths):
        certificate.checks.append({"check": found.name, "state": found.state})
        if found.state == doctor.BAD:
            certificate.add(Finding(ENVIRONMENT, f"{found.name} is not in order: see doctor"))
    accepted = policy.decide(paths, runtime.environ).grant
    if accepted is not None and accepted.notice < catalog.NOTICE_VERSION:
        certificate.notes.append("the consent is for an earlier notice: only that is recorded")


def failures(certificate: Certificate) -> Iterator[str]:
    """Yield the reasons why the data did not pass."""
    environment = certificate.found[ENVIRONMENT]
    stored = certificate.total - environment
    if stored:
        yield f"{counted(stored, 'finding')} in the stored data: see the report"
    if environment:
        yield f"{counted(environment, 'finding')} about the environment: doctor shows the repair"
    if certificate.unsearched:
        more = len(certificate.unsearched) - 1
        yield certificate.unsearched[0] + (f", and {more:,} more: see the report" if more else "")


def lines(certificate: Certificate, max_width: int) -> Iterator[str]:
    """Yield the report for people.

    Args:
        certificate: the report.
        max_width: columns of the terminal.
    """
    capacity = certificate.capacity_bits
    secrets, common = (sum(c.values()) for c in (certificate.secrets, certificate.set_aside))
    verdict = "PASSED" if certificate.passed else "FAILED"
    events, app, schema = certificate.events, certificate.app, certificate.schema
    yield f"{verdict}: {counted(events, 'event')} of {app}, schema {schema}"
    yield ""
    checks = counted(len(certificate.checks), "check")
    details = (
        f"a closed grammar; {capacity['total']:.0f} bits per line, {capacity['random']:.0f} random",
        f"{counted(certificate.pseudonyms, 'pseudonym')}; no hash of a secret without a key",
        f"{counted(secrets, 'secret')} of this machine; {common:,} too common to search for",
        "patterns of personal data and tokens; best effort",
        f"{checks} of modes, owners, key, git, consent, retention",
    )
    states = [counted(n, "finding") if (n := certificate.found[name]) else "ok" for name in LAYERS]
    layers = [f"{number}  {layer}" for number, layer in enumerate(LAYERS, 1)]
    columns = [Column("", layers), Column("", states), Column("", details, remark=True)]
    yield from list(table(columns, max_width))[1:]
    yield from fold(f"forms of the secrets searched for: {', '.join(FORMS)}", max_width, " " * 5)
    yield ""
    yield from files_of(certificate, max_width)
    for lead, texts in (
        ("  note: ", certificate.notes),
        ("  not searched: ", certificate.unsearched),
        ("  ", [finding.sentence() for finding in certificate.findings]),
    ):
        for text in texts:
            yield from fold(text, max_width, lead, " " * 4)
    if certificate.total > len(certificate.findings):
        yield f"  and {certificate.total - len(certificate.findings):,} more"


def files_of(certificate: Certificate, max_width: int) -> Iterator[str]:
    """Yield one line for each checked file; a narrow terminal shows the first digits of a hash."""
    for looked in certificate.files:
        parts = [in_bytes(looked.size_bytes)]
        parts += [counted(looked.inside, "file") + " inside"] if looked.inside else []
        parts += [counted(looked.events, "event")] if looked.events else []
        parts += [counted(looked.torn, "torn line")] if looked.torn else []
        parts += [counted(looked.blank, "blank line")] if looked.blank else []
        content = f"sha256 {looked.sha256}" if looked.sha256 else "content not shown"
        line = f"{looked.file}  {', '.join(parts)}  {content}"
        if looked.sha256 and display_width(line) > max_width - 2:
            line = line.removesuffix(looked.sha256[DIGITS:])
        yield from fold(line, max_width, "  ", " " * 4)
