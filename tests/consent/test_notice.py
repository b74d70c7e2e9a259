"""What the user is told comes from the catalog, fits a small terminal, and is what is recorded."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import capture_events, configure
from telemetry_kit.consent import notice
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog

HOME = ProjectPaths("flowspec", "/home/me/project", "/home/me/.config", "/home/me/.local")


def home(app: str = "flowspec", root: str = HOME.root) -> ProjectPaths:
    return ProjectPaths(app, root, HOME.config, HOME.state)


# -- the notice --------------------------------------------------------------------------------

APPS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,39}", fullmatch=True)
KEYS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9_.-]{1,100}", fullmatch=True),
    st.sampled_from(["identifier", "measure", "flag", ("a", "b"), ("x",)]),
    max_size=12,
)


@given(
    app=APPS,
    root=st.text(min_size=1, max_size=200).map(lambda text: "/" + text),
    keys=KEYS,
    step=st.sampled_from(list(catalog.RESOLUTIONS)),
    days=st.integers(1, 3650),
    everywhere=st.booleans(),
)
def test_it_always_fits(app, root, keys, step, days, everywhere) -> None:
    """Whatever app, folder and settings: 14 lines of 78 characters of printable ASCII at most."""
    options = {"context": keys, "timestamp_resolution": step, "retention_days": days}
    with configure(app=app, **options) as now:
        lines = notice.lines(home(app, root), now, everywhere=everywhere)

    assert len(lines) <= 14  # the question makes 15
    assert all(line.isascii() and line.isprintable() and len(line) <= 78 for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        *("roles", "commands", "agents", "workflows", "hand-offs", "how they end", "how long"),
        *("stored for 90 days", "anyone who can read your files", "/.flowspec/telemetry.jsonl"),
        *("no code sends any of this", "pseudonyms, which are not anonymity", "all 14 events"),
        *("view shows it", "off stops it", "clear deletes it", "arguments", "file names"),
        *("your name, host or e-mail", '"event_type": "agent.completed"', "the day"),
    ],
)
def test_it_says(words: str) -> None:
    """What is recorded, what never is, where, how long, and how to see, stop and delete it."""
    assert words.lower() in " ".join(" ".join(notice.lines(HOME)).split()).lower()


@pytest.mark.parametrize("word", ["anonymous", "completely", "improve", "experience", "private"])
def test_it_does_not_persuade(word: str) -> None:
    """No promise that does not hold, and no reason to say yes other than what it is."""
    assert word not in "\n".join(notice.lines(HOME)).lower()


def test_it_names_every_kind_of_event(monkeypatch) -> None:
    """Kinds of events come from the catalog: a new one is named without anybody's help."""
    row = catalog.Event("model.used", "Which models?")
    monkeypatch.setitem(catalog.EVENTS, row.name, row)

    assert "workflows and models" in " ".join(notice.lines(HOME))
    assert "all 15 events" in " ".join(notice.lines(HOME))


def test_it_follows_the_settings() -> None:
    """Resolution, retention and the tool's own keys are those in force."""
    context = {"task_id": "identifier", "tries": "measure", "dry": "flag", "mode": ["a", "b"]}
    with configure(timestamp_resolution="second", retention_days=7, context=context):
        text = " ".join(notice.lines(HOME))

    assert "the second. For example:" in text
    assert "Stored for 7 days" in text
    assert "dry (yes/no), mode (2 words) and 2 more." in text


def test_for_all_projects() -> None:
    """Asked for all projects, it does not name one."""
    text = " ".join(notice.lines(HOME, everywhere=True))

    assert "in all projects?" in text
    assert HOME.root not in text


def test_another_app_is_told_its_own_commands() -> None:
    """What is to be typed is about the app that asks."""
    assert notice.command("flowspec") == "telemetry-kit"
    assert "telemetry-kit --app acme view shows it" in " ".join(notice.lines(home("acme")))


def test_example_and_samples_are_what_the_pipeline_writes() -> None:
    """Example, samples and dictionary are constants; the pipeline writes the same, save for ids."""
    with capture_events() as captured:
        pipeline.emit(
            {
                "event": "agent.completed",
                "role": "dev",
                "agent": "me@home",
                "duration_ms": 900,
                pipeline.METADATA: pipeline.EventMetadata(scope=None),
            }
        )
        given = {"role": "dev", "command": "/your:command", "agent": "your-agent"}
        for name in catalog.EVENTS:
            pipeline.emit({**given, "event": name, "outcome": "ok", "duration_ms": 900})
    example, *samples = captured.events
    shown = json.loads(notice.example())
    own_id = {"event_id", "project_id", "timestamp", "seq"}

    assert shown | {"timestamp": ""} == {k: example[k] for k in shown} | {"timestamp": ""}
    assert list(shown) == [f for f in catalog.ORDER if f in shown]
    for ours, real in zip(notice.samples(), samples, strict=True):
        assert list(ours) == list(real)
        assert {k: ours[k] for k in ours if k not in own_id} == {
            k: real[k] for k in real if k not in own_id
        }


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        *(("day", "2026-11-22T00:00:00Z"), ("hour", "2026-11-22T10:00:00Z")),
        *(("minute", "2026-11-22T10:30:00Z"), ("second", "2026-11-22T10:30:30Z")),
    ],
)
def test_the_example_has_the_resolution_in_force(step: str, shown: str) -> None:
    """The time in the example is as fine as what would be stored, and the same on any day."""
    with configure(timestamp_resolution=step):
        assert json.loads(notice.example())["timestamp"] == shown


def test_the_hash_is_the_same_on_any_day(undecided) -> None:
    """The hash of a notice can be worked out again later."""
    before = notice.text_sha256(HOME)
    undecided.now.advance(400 * 86_400)

    assert notice.text_sha256(HOME) == before
    assert notice.text_sha256(HOME, everywhere=True) != before


def test_making_it_records_nothing(place) -> None:
    """Notice, samples and dictionary record nothing, also where recording is on."""
    notice.lines(place.home)
    notice.samples()
    notice.dictionary()

    assert not place.log.exists()


# -- the dictionary ----------------------------------------------------------------------------


def test_every_row_is_in_the_dictionary() -> None:
    """Each event with its question and owner, each field with class, domain, example, purpose."""
    rows = notice.dictionary().splitlines()

    for event in catalog.EVENTS.values():
        assert f"| `{event.name}` | {event.question} | {event.owner} | {event.since} |" in rows
    for field in catalog.FIELDS.values():
        (row,) = [r for r in rows if r.startswith(f"| `{field.name}` | ")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 7, row
        assert all(cells), row
        assert (cells[1], cells[-1]) == (field.kind, "no")


def test_the_dictionary_is_the_same_every_time() -> None:
    """Made twice it is the same text: nothing random, no day, no place."""
    assert notice.dictionary() == notice.dictionary()


def test_context_keys_are_in_the_dictionary() -> None:
    """Keys that the tool declares are listed with their class."""
    with configure(context={"task_id": "identifier", "mode": ["b", "a"]}):
        text = notice.dictionary()

    assert "| `context.task_id` | identifier |" in text
    assert "| `context.mode` | one of a, b |" in text


# -- the schema --------------------------------------------------------------------------------

TYPES = {"string": str, "integer": int, "object": dict, "boolean": bool, "number": (int, float)}


def fits(schema: dict, value: object) -> bool:
    """Whether a value fits a schema, as far as ours go."""
    if "anyOf" in schema:
        return any(fits(one, value) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if not isinstance(value, TYPES[schema["type"]]):
        return False
    if isinstance(value, str):
        longest = schema.get("maxLength", len(value))
        return bool(re.search(schema.get("pattern", ""), value)) and len(value) <= longest
    if isinstance(value, dict):
        known = schema["properties"]
        return set(value) >= set(schema.get("required", ())) and all(
            key in known and fits(known[key], item) for key, item in value.items()
        )
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_samples_fit_the_schema() -> None:
    """One record of each event fits the JSON Schema, which knows no other keys."""
    schema = notice.json_schema()
    samples = notice.samples()

    assert [s["event_type"] for s in samples] == list(catalog.EVENTS)
    assert all(fits(schema, sample) for sample in samples)
    assert not fits(schema, {**samples[0], "hostname": "x"})
    assert not fits(schema, {**samples[0], "timestamp": "yesterday"})
    assert list(schema["properties"]) == list(catalog.ORDER)


def test_context_fits_the_schema() -> None:
    """Declared keys are in the schema with their class; others are not."""
    context = {"task_id": "identifier", "tries": "measure", "dry": "flag", "mode": ["a", "b"]}
    with configure(context=context), capture_events() as captured:
        values = {"task_id": "T-1", "tries": 3, "dry": True, "mode": "b", "other": 1}
        pipeline.emit({"event": "agent.invoked", "agent": "x", "context": values})
        schema = notice.json_schema()

    assert fits(schema, captured.events[0])
    assert set(captured.events[0]["context"]) == set(context)
    assert not fits(notice.json_schema(), captured.events[0])
