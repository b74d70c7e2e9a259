"""`telemetry-kit schema` and `preview`, and TELEMETRY.md, which is what they say."""

import json
from pathlib import Path

import pytest

from telemetry_kit.consent import notice
from telemetry_kit.schema import catalog

ROOT = Path(__file__).parents[2]


def command(place, *args: str):
    return place.python("-m", "telemetry_kit", *args)


def test_the_page_in_the_repository(undecided) -> None:
    """TELEMETRY.md is what `schema --format md` prints: generate it anew when this fails."""
    done = command(undecided, "schema", "--format", "md")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "TELEMETRY.md").read_text(encoding="ascii")


def test_markdown_is_the_default(undecided) -> None:
    """Without `--format` the page for people is printed."""
    assert command(undecided, "schema").stdout == notice.dictionary()


def test_json_schema(undecided) -> None:
    """`jsonschema` is the schema of one line, and nothing else on stdout."""
    done = command(undecided, "schema", "--format", "jsonschema")

    assert json.loads(done.stdout) == json.loads(json.dumps(notice.json_schema()))


def test_json(undecided) -> None:
    """`json` holds both tables, every row of them."""
    found = json.loads(command(undecided, "schema", "--format", "json").stdout)

    assert [e["name"] for e in found["events"]] == list(catalog.EVENTS)
    assert [f["name"] for f in found["fields"]] == list(catalog.FIELDS)
    assert (found["schema_version"], found["notice"]) == ("1.0", catalog.NOTICE_VERSION)
    assert {f["leaves_the_machine"] for f in found["fields"]} == {False}
    assert all(f["purpose"] and f["domain"] for f in found["fields"])


def test_another_format(undecided) -> None:
    """A format that there is not is a usage error that names those that there are."""
    done = command(undecided, "schema", "--format", "xml")

    assert (done.returncode, done.stdout) == (2, "")
    assert "'xml': use one of md, json, jsonschema" in done.stderr


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "C"}, {"NO_COLOR": "1"}, {"COLUMNS": "20"}])
def test_preview(undecided, env) -> None:
    """`preview` shows the notice and one of each event, and writes nothing."""
    done = undecided.python("-m", "telemetry_kit", "preview", env=env)
    text, _, samples = done.stdout.partition(
        "\n\nOne sample of each event, as it would be stored:\n"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert text.splitlines() == notice.lines(undecided.home)
    assert [json.loads(line)["event_type"] for line in samples.splitlines()] == [*catalog.EVENTS]
    assert undecided.tree() == []


def test_preview_as_json(place) -> None:
    """`preview --json` prints the samples alone, and records nothing where recording is on."""
    done = command(place, "preview", "--json")
    schema = notice.json_schema()

    assert len([json.loads(line) for line in done.stdout.splitlines()]) == len(catalog.EVENTS)
    for line in done.stdout.splitlines():
        assert set(json.loads(line)) <= set(schema["properties"])
    assert not place.log.exists()
