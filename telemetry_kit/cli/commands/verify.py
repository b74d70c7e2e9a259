"""`telemetry-kit verify`: check all stored data in five layers and print a report.

A finding is never printed in full, only its kind, position, first letter and length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.commands import doctor
from telemetry_kit.cli.output import CommandError, counted, in_bytes, safe
from telemetry_kit.cli.registry import COMMANDS
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
        for line in lines(certificate):
            print(safe(line))
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
        yield f"not everything was searched: {'; '.join(certificate.unsearched)}"


def lines(certificate: Certificate) -> Iterator[str]:
    """Yield the report for people."""
    capacity = certificate.capacity_bits
    secrets, common = (sum(c.values()) for c in (certificate.secrets, certificate.set_aside))
    verdict = "PASSED" if certificate.passed else "FAILED" if certificate.total else "INCOMPLETE"
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
    for number, (layer, text) in enumerate(zip(LAYERS, details, strict=True), 1):
        state = counted(certificate.found[layer], "finding") if certificate.found[layer] else "ok"
        yield f"  {number}  {layer:<14} {state:<11}  {text}"
    yield f"     forms of the secrets searched for: {', '.join(FORMS)}"
    yield ""
    for looked in certificate.files:
        parts = [in_bytes(looked.size_bytes)]
        parts += [counted(looked.events, "event")] if looked.events else []
        parts += [counted(looked.torn, "torn line")] if looked.torn else []
        parts += [counted(looked.blank, "blank line")] if looked.blank else []
        content = f"sha256 {looked.sha256}" if looked.sha256 else "content not shown"
        yield f"  {looked.file}  {', '.join(parts)}  {content}"
    for note in certificate.notes:
        yield f"  note: {note}"
    if certificate.findings:
        yield ""
    for finding in certificate.findings:
        yield f"  {finding.sentence()}"
    if certificate.total > len(certificate.findings):
        yield f"  and {certificate.total - len(certificate.findings):,} more"
