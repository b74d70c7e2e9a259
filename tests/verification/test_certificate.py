"""The certificate of millions of findings."""

from telemetry_kit.verification.certificate import (
    GRAMMAR,
    KNOWN,
    MAX_LISTED,
    Certificate,
    Finding,
)


def test_all_are_counted_and_the_first_are_listed():
    """The certificate counts every finding and lists the first ones, so memory stays bounded."""
    certificate = Certificate("flowspec", "1.0", 1)
    for line in range(10_000):
        certificate.add(Finding(GRAMMAR, "not a line", "telemetry.jsonl", line))
    certificate.add(Finding(KNOWN, "a name", "telemetry.jsonl", 3))
    said = certificate.as_json()

    assert (certificate.total, len(certificate.findings)) == (10_001, MAX_LISTED)
    assert said["findings_by_layer"] | {GRAMMAR: 10_000, KNOWN: 1} == said["findings_by_layer"]
    assert said["findings_not_listed"] == 10_001 - MAX_LISTED
    assert not certificate.passed


def test_the_same_finding_counts_once():
    """A text in two encodings in one line is one finding."""
    certificate = Certificate("flowspec", "1.0", 1)
    for _ in range(3):
        certificate.add(Finding(KNOWN, "a name", "telemetry.jsonl", 3))

    assert certificate.total == 1
