"""The certificate of millions of findings."""

from telemetry_kit.verification.certificate import (
    GRAMMAR,
    KNOWN,
    MAX_LISTED,
    Certificate,
    Finding,
)


def test_all_findings_are_counted():
    """The certificate counts every finding and lists the first ones. Its memory is bounded."""
    certificate = Certificate("flowspec", "1.0", 1)
    for line in range(10_000):
        certificate.add(Finding(GRAMMAR, "not a line", "telemetry.jsonl", line))
    certificate.add(Finding(KNOWN, "a name", "telemetry.jsonl", 3))
    report = certificate.as_json()

    assert (certificate.total, len(certificate.findings)) == (10_001, MAX_LISTED)
    assert report["findings_by_layer"] | {GRAMMAR: 10_000, KNOWN: 1} == report["findings_by_layer"]
    assert report["findings_not_listed"] == 10_001 - MAX_LISTED
    assert not certificate.passed


def test_the_same_finding_counts_once():
    """A text in two encodings in one line is one finding."""
    certificate = Certificate("flowspec", "1.0", 1)
    for _ in range(3):
        certificate.add(Finding(KNOWN, "a name", "telemetry.jsonl", 3))

    assert certificate.total == 1
