"""`telemetry-kit verify`: check all stored data in five layers and print a certificate.

Findings are never printed in full: only a kind, a position, a first letter and a length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.commands import doctor
from telemetry_kit.cli.output import CommandError, print_line, safe
from telemetry_kit.cli.registry import COMMANDS
from telemetry_kit.consent import changes, policy
from telemetry_kit.errors import TelemetryError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.verification.certificate import (
    ENVIRONMENT,
    LAYERS,
    Certificate,
    CheckedFile,
    Finding,
)
from telemetry_kit.verification.search import FORMS
from telemetry_kit.verification.verify import Verification, baseline


def run(project: str | None, files: Sequence[str], as_json: bool) -> None:
    """Prove that nothing is stored that should not be; exit with 1 when something is.

    Raises:
        CommandError: something was found, or a file could not be examined.
    """
    home = changes.paths_of(project)
    try:
        known = baseline(home, runtime.environ, os.getcwd())
        certificate = Verification(known, [f"{name} {text}" for _, name, text in COMMANDS]).run(
            files
        )
    except (TelemetryError, OSError) as error:
        raise CommandError(f"not everything could be examined: {error}") from None
    _surroundings(home, certificate)
    if as_json:
        print_line(json.dumps(certificate.as_json()))
    else:
        for line in lines(certificate):
            print_line(safe(line))
    if not certificate.passed:
        raise CommandError("; ".join(verdicts(certificate)))


def verdicts(certificate: Certificate) -> Iterator[str]:
    """Why a certificate is not passed, in words."""
    environment = certificate.found[ENVIRONMENT]
    stored = certificate.total - environment
    if stored:
        told = "1 finding" if stored == 1 else f"{stored:,} findings"
        yield f"{told}: something is stored that should not be"
    if environment:
        told = "1 finding" if environment == 1 else f"{environment:,} findings"
        yield f"{told} about the environment, not about what is stored: doctor says what to do"
    if certificate.unsearched:
        yield f"not everything was searched: {'; '.join(certificate.unsearched)}"


def _surroundings(home: ProjectPaths, certificate: Certificate) -> None:
    """The fifth layer: what `doctor` examines, and whether the consent is for this notice."""
    for found in doctor.examine(home):
        certificate.checks.append({"check": found.name, "state": found.state})
        if found.state == doctor.BAD:
            certificate.add(Finding(ENVIRONMENT, f"{found.name} is not in order: see doctor"))
    decision = policy.decide(home, runtime.environ)
    grant = decision.grant
    if grant is not None and grant.notice < catalog.NOTICE_VERSION:
        certificate.notes.append("the consent is for an earlier notice: only that is recorded")


def lines(certificate: Certificate) -> Iterator[str]:
    """The certificate for people."""
    capacity = certificate.capacity_bits
    random = capacity["random"]
    looked_for = sum(certificate.secrets.values())
    aside = sum(certificate.set_aside.values())
    verdict = "PASSED" if certificate.passed else "FAILED" if certificate.total else "INCOMPLETE"
    events, app, schema = certificate.events, certificate.app, certificate.schema
    yield f"{verdict}: {events} events of {app}, schema {schema}"
    yield ""
    said = (
        f"a closed grammar; {capacity['total']:.0f} bits left a line, {random:.0f} of them random",
        f"{certificate.pseudonyms} pseudonyms; no hash of a secret without a key",
        f"{looked_for} of this machine's secrets; {aside} too common to look for",
        "shapes of personal data and tokens; best effort",
        f"{len(certificate.checks)} checks of modes, owners, key, git, consent, retention",
    )
    for number, (layer, text) in enumerate(zip(LAYERS, said, strict=True), 1):
        state = "ok" if not certificate.found[layer] else f"{certificate.found[layer]} findings"
        yield f"  {number}  {layer:<14} {state:<11}  {text}"
    yield f"     forms of the secrets looked for: {', '.join(FORMS)}"
    yield ""
    for checked in certificate.files:
        yield _checked(checked)
    for note in certificate.notes:
        yield f"  note: {note}"
    if certificate.findings:
        yield ""
    for finding in certificate.findings:
        yield f"  {finding.sentence()}"
    if certificate.total > len(certificate.findings):
        yield f"  and {certificate.total - len(certificate.findings)} more"


def _checked(checked: CheckedFile) -> str:
    parts = [f"{checked.size_bytes} bytes"]
    if checked.events:
        parts.append(f"{checked.events} events")
    if checked.torn:
        parts.append(f"{checked.torn} torn lines")
    if checked.blank:
        parts.append(f"{checked.blank} blank lines")
    code = f"sha256 {checked.sha256}" if checked.sha256 else "content not shown"
    return f"  {checked.file}  {', '.join(parts)}  {code}"
