"""`telemetry-kit find`: in how many events a text is, in clear or as a pseudonym."""

import json

from telemetry_kit import configure, track_role_event

TEXT = "zora@quill.example"


def find(place, *args, **options):
    """Run it with `--json`."""
    done = place.python("-m", "telemetry_kit", "find", "--json", *args, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def remember(place) -> None:
    """Events with the text in two fields and a context key, with a clear name, and without."""
    configure(context={"task_id": "identifier"})
    from telemetry_kit import enable_telemetry

    enable_telemetry()
    track_role_event("role.selected", role=TEXT)
    track_role_event("agent.invoked", agent=TEXT, role="dev")
    track_role_event("agent.failed", role="dev", context={"task_id": TEXT})


def test_pseudonyms_are_found(place) -> None:
    """Every field that holds its pseudonym is named, with how many events."""
    remember(place)
    found = find(place, TEXT)

    assert 3 == found["events"]
    assert {"role": 1, "agent": 1, "context.task_id": 1} == found["as_pseudonym"]
    assert {"role.selected": 1, "agent.invoked": 1, "agent.failed": 1} == found["types"]


def test_clear_names_paths_and_strangers(place) -> None:
    """A declared name is found in clear, the project by its path, a stranger nowhere."""
    remember(place)

    assert {"role": 2} == find(place, "dev")["in_clear"]
    assert {"project_id": 3} == find(place, str(place.root))["as_pseudonym"]
    assert 0 == find(place, "bob@quill.example")["events"]


def test_text_from_stdin(place) -> None:
    """A dash reads the text from stdin, so that no shell history keeps it."""
    remember(place)

    assert 3 == find(place, "-", input=f"{TEXT}\n")["events"]


def test_retired_keys_are_told(place) -> None:
    """After a rotation nobody can tell, and it says so; the text is never printed."""
    remember(place)
    assert 0 == place.python("-m", "telemetry_kit", "rotate-key", "--yes").returncode
    done = place.python("-m", "telemetry_kit", "find", TEXT)

    assert 0 == find(place, TEXT)["events"]
    assert "3 events were recorded with other keys" in done.stderr
    assert TEXT not in done.stdout + done.stderr


def test_forms_are_told(place) -> None:
    """The report says in which forms the text was looked for; so does the JSON."""
    remember(place)
    done = place.python("-m", "telemetry_kit", "find", TEXT)

    assert "Forms searched for: plain, pseudonym, part of a longer text.\n" in done.stderr
    assert ["plain", "pseudonym", "part of a longer text"] == find(place, TEXT)["forms_looked_for"]
