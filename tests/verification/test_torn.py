"""Fragments of a killed process or a full disk are counted, and a secret in one is found."""

import json

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.verification.recognisers import recognise

SECRET = "zora.quillfeather@quill.example"
VERIFY = ("-m", "telemetry_kit", "--app", "flowspec", "verify", "--json")


@pytest.fixture
def recorded(place):
    """Make a project with two events."""
    with place.configure(agents=["worker"]):
        for _ in range(2):
            assert track_role_event("agent.invoked", agent="worker", role="dev")
    return place


def verify(place, *args):
    """Run `verify`, and return the exit code, the entry of the log and the findings."""
    done = place.python(*VERIFY, *args)
    certificate = json.loads(done.stdout)
    log = next(f for f in certificate["files"] if f["kind"] == "active")
    return done.returncode, log, certificate["findings"]


@pytest.mark.parametrize("digits", [b"abababababababab", b"0049301234567890"])
def test_events_joined_to_fragments_are_events(recorded, digits: bytes) -> None:
    """A fragment with an event after it is one fragment and one event.

    A cut id that looks like a telephone number is not a finding.
    """
    line = recorded.lines()[0]
    line = line.replace(json.loads(line)["event_id"].encode(), digits)
    joined = b"".join(line[:cut] + line for cut in range(1, len(line) - 1))
    recorded.log.write_bytes(recorded.log.read_bytes() + joined)
    code, log, findings = verify(recorded)

    assert (0, []) == (code, findings)
    assert (len(line) - 2, len(line)) == (log["torn"], log["events"])


@pytest.mark.parametrize("before", ['"event_id":"', '"project_id":"h:', '"agent":"h:'])
def test_a_truncated_id_is_not_a_phone_number(before: str) -> None:
    """The digits of a truncated id are not a finding. A phone number elsewhere is one."""
    for cut in range(12):
        assert [] == list(recognise(f"{before}{'004930123456'[:cut]}"))
    assert ["phone number"] == [kind for kind, _ in recognise('"said":"00493012345')]


@pytest.mark.parametrize("between", [b"", b"\0" * 700])
def test_several_events_in_one_line(recorded, between: bytes) -> None:
    """Events and fragments in one line are separated, with or without NULs between them."""
    line = recorded.lines()[0][:-1]
    joined = between.join((line[:50], line, line[:120], line, line))
    recorded.log.write_bytes(recorded.log.read_bytes() + joined + b"\n")
    code, log, findings = verify(recorded)

    assert (0, [], 2, 5) == (code, findings, log["torn"], log["events"])


@pytest.mark.parametrize("has_event_after", [True, False], ids=["joined", "alone"])
def test_a_secret_in_a_fragment_is_found(recorded, has_event_after: bool) -> None:
    """Text that is not the start of an event is a finding, also before a complete event."""
    line = recorded.lines()[0]
    at = line.index(b'"dev"') + 1
    planted = line[:at] + SECRET.encode() + (line if has_event_after else b"\n")
    recorded.log.write_bytes(recorded.log.read_bytes() + planted)
    code, _, findings = verify(recorded)

    assert 1 == code
    assert {"grammar", "recognisers"} <= {f["layer"] for f in findings}


def test_a_secret_after_a_joined_event_is_found(recorded) -> None:
    """A secret is found after the joined event and inside it."""
    line = recorded.lines()[0]
    for planted in (
        line[:40] + line[:-1] + SECRET.encode() + b"\n",
        line[:40] + line.replace(b'"dev"', json.dumps(SECRET).encode()),
    ):
        before = recorded.log.read_bytes()
        recorded.log.write_bytes(before + planted)

        assert 1 == verify(recorded)[0]
        recorded.log.write_bytes(before)


FULL = """
import resource, signal, sys
from telemetry_kit import configure, track_role_event
configure(app="flowspec", agents=[f"worker-{n}" for n in range(400)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if sys.argv[1] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
for n in range(400):
    track_role_event("agent.invoked", agent=f"worker-{n}")
"""


@pytest.mark.parametrize("limit", [1_000, 2_345, 4_321, 8_765])
def test_a_full_disk_is_no_violation(recorded, limit: int) -> None:
    """After a full disk, files may end in fragments, and later events are recorded."""
    for size in (limit, 0):
        # The size limit would also cut bytecode files.
        done = recorded.run(FULL, str(size), env={"PYTHONDONTWRITEBYTECODE": "1"})
        assert (0, "") == (done.returncode, done.stderr)
    code, log, findings = verify(recorded)

    assert (0, []) == (code, findings)
    assert log["events"] >= 400
