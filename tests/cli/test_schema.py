"""`telemetry-kit schema` and `preview`, and TELEMETRY.md, which is the output of `schema`."""

import json
from pathlib import Path

import pytest

from telemetry_kit.consent import notice
from telemetry_kit.schema import catalog

ROOT = Path(__file__).parents[2]


def command(place, *args: str):
    """Run a command in the project."""
    return place.python("-m", "telemetry_kit", *args)


def test_the_page_in_the_repository(undecided) -> None:
    """TELEMETRY.md is the output of `schema --format md`. Generate it again if this test fails."""
    done = command(undecided, "schema", "--format", "md")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "TELEMETRY.md").read_text(encoding="ascii")


def test_markdown_is_the_default(undecided) -> None:
    """Without `--format`, the schema is printed as Markdown."""
    assert command(undecided, "schema").stdout == notice.dictionary()


def test_json_schema(undecided) -> None:
    """`jsonschema` prints only the JSON Schema of one line on stdout."""
    done = command(undecided, "schema", "--format", "jsonschema")

    assert json.loads(done.stdout) == json.loads(json.dumps(notice.json_schema()))


def test_json(undecided) -> None:
    """`json` prints every row of both tables."""
    found = json.loads(command(undecided, "schema", "--format", "json").stdout)

    assert [e["name"] for e in found["events"]] == list(catalog.EVENTS)
    assert [f["name"] for f in found["fields"]] == list(catalog.FIELDS)
    assert (found["schema_version"], found["notice"]) == ("1.0", catalog.NOTICE_VERSION)
    assert {f["leaves_the_machine"] for f in found["fields"]} == {False}
    assert all(f["purpose"] and f["domain"] for f in found["fields"])


def test_an_unknown_format(undecided) -> None:
    """An unknown format is a usage error that lists the known ones."""
    done = command(undecided, "schema", "--format", "xml")

    assert (done.returncode, done.stdout) == (2, "")
    assert "'xml': use one of md, json, jsonschema" in done.stderr


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "C"}, {"NO_COLOR": "1"}, {"COLUMNS": "20"}])
def test_preview(undecided, env) -> None:
    """`preview` prints the notice and a sample of each event, and creates no file."""
    done = undecided.python("-m", "telemetry_kit", "preview", env=env)
    text, names, samples = done.stdout.split("\n\n")

    assert (done.returncode, done.stderr) == (0, "")
    assert text.splitlines() == notice.lines(undecided.home)
    assert names.splitlines() == [
        "Names that are stored in plain text:",
        "  roles      all, arch, dev, ops, pm, qa, sec",
        *("  agents     none", "  commands   none", "  workflows  none"),
    ]
    samples = samples.partition("\n")[2]
    assert [json.loads(line)["event_type"] for line in samples.splitlines()] == [*catalog.EVENTS]
    assert undecided.tree() == []


def test_preview_shows_every_name(place) -> None:
    """`preview` shows the names of the project and those that the program has used."""
    toml = "agents = ['planner']\ncommands = ['/flow:plan']\n"
    (place.root / ".flowspec").mkdir()
    (place.root / ".flowspec/telemetry.toml").write_text(toml)
    code = (
        "from telemetry_kit import *\nnames = [f'agent-{n}' for n in range(6)]\n"
        "configure(agents=names)\nfor n in names: track_role_event('agent.invoked', agent=n)"
    )
    place.run(code, check=True)
    names = command(place, "preview").stdout.split("\n\n")[1]

    assert "  commands   /flow:plan\n" in names
    assert f"  agents     {', '.join(f'agent-{n}' for n in range(6))}, planner\n" in names


def test_preview_as_json(place) -> None:
    """`preview --json` prints only the samples, and records no event."""
    done = command(place, "preview", "--json")
    schema = notice.json_schema()

    assert len([json.loads(line) for line in done.stdout.splitlines()]) == len(catalog.EVENTS)
    for line in done.stdout.splitlines():
        assert set(json.loads(line)) <= set(schema["properties"])
    assert not place.log.exists()
