"""`telemetry-kit find` counts the events that contain a text in plain text or as a pseudonym."""

import json

from telemetry_kit import configure, track_role_event

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
    assert ["plain", "pseudonym", "part of a longer text"] == find(place, TEXT)["forms_looked_for"]
