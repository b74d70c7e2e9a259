"""`telemetry-kit find` counts the events that contain a text in plain text or as a pseudonym."""

import json

import pytest

from telemetry_kit import configure, track_role_event
from telemetry_kit.verification.lookup import SPELLINGS, Lookup

TEXT = "zora@quill.example"


def find(place, *args, **options):
    """Run `find` with `--json` and return the report."""
    done = place.python("-m", "telemetry_kit", "find", "--json", *args, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def record_events(place) -> None:
    """Record events with the text in two fields and in a context key."""
    configure(context={"task_id": "identifier"})
    from telemetry_kit import enable_telemetry

    enable_telemetry()
    track_role_event("role.selected", role=TEXT)
    track_role_event("agent.invoked", agent=TEXT, role="dev")
    track_role_event("agent.failed", role="dev", context={"task_id": TEXT})


def test_pseudonyms_are_found(place) -> None:
    """The report counts the events for each field that contains the pseudonym."""
    record_events(place)
    found = find(place, TEXT)

    assert 3 == found["events"]
    assert {"role": 1, "agent": 1, "context.task_id": 1} == found["as_pseudonym"]
    assert {"role.selected": 1, "agent.invoked": 1, "agent.failed": 1} == found["types"]


def test_declared_names_paths_and_unknown_texts(place) -> None:
    """A declared name is found in plain text, and the project by its path.

    An unknown text is not found.
    """
    record_events(place)

    assert {"role": 2} == find(place, "dev")["in_clear"]
    assert {"project_id": 3} == find(place, str(place.root))["as_pseudonym"]
    assert 0 == find(place, "bob@quill.example")["events"]


def test_text_from_stdin(place) -> None:
    """`-` reads the text from stdin, so that it is not in the shell history."""
    record_events(place)

    assert 3 == find(place, "-", input=f"{TEXT}\n")["events"]


def test_events_of_retired_keys_are_reported(place) -> None:
    """The events of a retired key are counted, and the text is not printed."""
    record_events(place)
    assert 0 == place.python("-m", "telemetry_kit", "rotate-key", "--yes").returncode
    done = place.python("-m", "telemetry_kit", "find", TEXT)

    assert 0 == find(place, TEXT)["events"]
    assert "3 events were recorded with other keys" in done.stderr
    assert TEXT not in done.stdout + done.stderr


def test_forms_are_reported(place) -> None:
    """The report and the JSON list the forms of the text that the command searches."""
    record_events(place)
    done = place.python("-m", "telemetry_kit", "find", TEXT)

    assert "Forms searched for: plain, pseudonym, part of a longer text.\n" in done.stderr
    found = find(place, TEXT)

    assert ["plain", "pseudonym", "part of a longer text"] == found["forms_looked_for"]
    assert list(SPELLINGS) == found["spellings_looked_for"]
    assert f"Spellings searched for: {', '.join(SPELLINGS)}.\n" in done.stderr


@pytest.fixture
def named(place):
    """Make a project with events of these names, which become pseudonyms."""
    for name in ("alice", "BOB", "Zora Quill", "Jos\u00e9", " padded "):
        assert track_role_event("agent.invoked", agent=name)
    return place


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("Alice", 1),
        ("ALICE ", 1),
        ("\talice", 1),
        ("bob", 1),
        ("zora quill", 1),
        ("Jose\u0301", 1),
        ("JOS\u00c9", 1),
        ("jos\u00e9", 1),
        (" padded ", 1),
        ("padded", 0),
        ("alic", 0),
    ],
)
def test_spellings(named, text: str, events: int) -> None:
    """A text is found as typed, stripped, and in lower, upper and title case, in any form."""
    lookup = Lookup(named.home, {1: text})

    assert events == lookup.count().events
    assert events == sum(not lookup.keeps(line.rstrip()) for line in named.lines())


def test_spellings_of_a_declared_name(place) -> None:
    """A name in plain text is found in the same spellings, and so is a part of a longer text."""
    place.configure(agents=["backend-engineer"])
    assert track_role_event("agent.invoked", agent="backend-engineer")
    found = [Lookup(place.home, {1: text}).count() for text in ("Backend-Engineer ", "ENGINEER")]

    assert [(1, 0, True), (0, 1, False)] == [(f.events, f.parts, f.is_declared) for f in found]


@pytest.mark.parametrize(
    "text",
    [
        "bob\nalice\n\nnobody",
        "\ufeffbob\r\nalice\r\n\r\nnobody\r\n",
        "Bob \nAlice\n \t\nnobody\udcff\n",
    ],
)
def test_each_line_of_stdin(named, text: str) -> None:
    """Each line of stdin is searched for, whatever ends it, and each has its own answer."""
    found = find(named, "-", input=text, errors="surrogateescape")
    done = named.python(*("-m", "telemetry_kit", "find", "-"), input=text, errors="surrogateescape")

    assert 2 == found["events"]
    assert [(1, 1), (2, 1), (4, 0)] == [(row["line"], row["events"]) for row in found["lines"]]
    assert "  line 4         0 events\n" in done.stdout
    assert "alice" not in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the text is empty"),
        ("\ufeff\r\n \n", "the text is empty"),
        ("name\n" * 1_001, "more than 1,000 lines"),
        ("x" * (1 << 20) + "\n", "more than 1 MiB"),
    ],
    ids=["nothing", "blank lines", "lines", "bytes"],
)
def test_stdin_without_texts(place, text: str, told: str) -> None:
    """Empty and too long input is a usage error in one sentence."""
    done = place.python("-m", "telemetry_kit", "find", "-", input=text)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert told in done.stderr
