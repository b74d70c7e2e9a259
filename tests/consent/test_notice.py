"""The consent notice describes what is recorded, from the catalog, on a small terminal."""

import json
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import RoleEvent, capture_events, configure, role_session, tracks
from telemetry_kit.consent import notice
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog
from telemetry_kit.settings import why_not_allowed

HOME = ProjectPaths("flowspec", "/home/me/project", "/home/me/.config", "/home/me/.local")


def home(app: str = "flowspec", root: str = HOME.root) -> ProjectPaths:
    """Return the project paths of an app in a directory."""
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
    names=st.lists(st.text(min_size=1, max_size=40), max_size=9),
)
def test_it_always_fits(app, root, keys, step, days, everywhere, names) -> None:
    """The notice has at most 14 lines of 78 printable ASCII characters, for any settings."""
    options = {"context": keys, "timestamp_resolution": step, "retention_days": days}
    options["agents"] = [name for name in names if why_not_allowed(name) is None]
    with configure(app=app, **options) as now:
        lines = notice.lines(home(app, root), now, everywhere=everywhere)

    assert len(lines) <= 14  # the question is line 15
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
def test_it_contains(words: str) -> None:
    """The notice names the recorded data, its path and retention, and the commands for it."""
    assert words.lower() in " ".join(" ".join(notice.lines(HOME)).split()).lower()


@pytest.mark.parametrize("word", ["anonymous", "completely", "improve", "experience", "private"])
def test_it_does_not_persuade(word: str) -> None:
    """The notice contains no false promise and no persuasion."""
    assert word not in "\n".join(notice.lines(HOME)).lower()


def test_it_names_every_kind_of_event(monkeypatch) -> None:
    """If the catalog has a new kind of event, the notice names it."""
    row = catalog.Event("model.used", "Which models?")
    monkeypatch.setitem(catalog.EVENTS, row.name, row)

    assert "workflows and models" in " ".join(notice.lines(HOME))
    assert "all 15 events" in " ".join(notice.lines(HOME))


def test_it_follows_the_settings() -> None:
    """The notice has the resolution, the retention and the context keys of the settings."""
    context = {"task_id": "identifier", "tries": "measure", "dry": "flag", "mode": ["a", "b"]}
    with configure(timestamp_resolution="second", retention_days=7, context=context):
        text = " ".join(notice.lines(HOME))

    assert "the second. For example:" in text
    assert "Stored for 7 days" in text
    assert "dry (yes/no), mode (2 words) and 2 more." in text


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["b", "a"], "a, b."),
        ([*"gfedcba"], "a, b, c, d, e and 2 more (see preview)."),
        ([f"a{n}" for n in range(1_205)], "a0, a1, a10, a100, a1000 and 1,200 more (see preview)."),
        (["x" * 30, "y" * 40], f"{'x' * 30} and 1 more (see preview)."),
        (["x" * 60, "y" * 60], "2 names (see preview)."),
        (["x" * 80], "1 name (see preview)."),
        (["ü"], "\\xfc."),
    ],
)
def test_it_names_what_is_in_plain_text(names: list[str], line: str) -> None:
    """The notice has at most five names, their number, and the command that shows all."""
    with configure(agents=names):
        (found,) = [text for text in notice.lines(HOME) if text.startswith("In plain text: ")]

    assert found == f"In plain text: {line}"


def test_it_names_the_names_of_files_and_decorators(place, at_top_level) -> None:
    """The notice also has the names of `telemetry.toml` and of decorators, without the roles."""
    (place.root / ".flowspec").mkdir()
    (place.root / ".flowspec/telemetry.toml").write_text("commands = ['/flow:plan']\n")
    at_top_level("@tracks('agent.invoked', agent='writer', role='dev')\ndef f(): ...")

    assert "In plain text: /flow:plan, writer." in notice.lines(place.home)


def test_the_notice_for_all_projects() -> None:
    """The notice for all projects names no project."""
    text = " ".join(notice.lines(HOME, everywhere=True))

    assert "in all projects?" in text
    assert HOME.root not in text


def test_commands_name_the_app() -> None:
    """The commands have the option `--app` for another app, and the words of a host's program."""
    assert "telemetry-kit view shows it" in " ".join(notice.lines(HOME))
    with configure(app="acme"):
        assert "telemetry-kit --app acme view shows it" in " ".join(notice.lines(home("acme")))
    with configure(app="acme", prog="ac usage"):
        assert "ac usage view shows it" in " ".join(notice.lines(home("acme")))


class ExitError(ValueError):
    """An error with an exit code, whose class is not declared."""

    exit_code = 1


def day_of_use() -> list[dict]:
    """Return the first event of each type, as sessions and decorators write it."""
    names = {"agent": "your-agent", "command": "/your:command", "workflow": "your-workflow"}
    handoff = {"source_agent": "your-agent", "target_agent": "your-other-agent"}
    # Decorations inside a function declare nothing, so these names become pseudonyms.
    runs = [("agent.invoked", None), ("agent.started", ValueError), ("command.executed", None)]
    runs += [("command.executed", ExitError), ("workflow.started", None)]
    runs += [("workflow.started", ValueError)]
    with capture_events() as captured, role_session("pm"), role_session("dev"):
        with tracks(RoleEvent.HANDOFF_CLICKED, **handoff):
            pass
        for event, error in runs:
            field = event.partition(".")[0]
            with suppress(ValueError), tracks(event, **{field: names[field]}):
                if error is not None:
                    raise error
    first = {event["event_type"]: event for event in reversed(captured.events)}
    return [first[name] for name in catalog.EVENTS]


def test_the_example_is_what_the_pipeline_writes() -> None:
    """The example is a constant. It equals an event of the pipeline."""
    with capture_events() as captured:
        pipeline.emit(
            {
                "event": "agent.completed",
                "role": "dev",
                "agent": "me@home",
                "duration_ms": 1_001,
                pipeline.METADATA: pipeline.EventMetadata(scope=None),
            }
        )
    (example,) = captured.events
    shown = json.loads(notice.example())

    assert shown | {"timestamp": ""} == {k: example[k] for k in shown} | {"timestamp": ""}
    assert list(shown) == [f for f in catalog.ORDER if f in shown]


def test_samples_are_what_sessions_and_decorators_write() -> None:
    """The samples are constants. Each has the fields and values of a real event of its type."""
    measured = {"event_id", "project_id", "session_id", "span_id", "timestamp", "seq"}
    measured |= {"duration_ms", "error_type"}
    for sample, event in zip(notice.samples(), day_of_use(), strict=True):
        role = {"role": sample["role"]}
        expected = event | role if event["event_type"] == "role.selected" else event
        assert list(sample) == list(event)
        assert {k: sample[k] for k in sample if k not in measured} == {
            k: expected[k] for k in event if k not in measured
        }


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        *(("day", "2026-11-22T00:00:00Z"), ("hour", "2026-11-22T10:00:00Z")),
        *(("minute", "2026-11-22T10:30:00Z"), ("second", "2026-11-22T10:30:30Z")),
    ],
)
def test_the_example_has_the_configured_resolution(step: str, shown: str) -> None:
    """The time in the example has the configured resolution, and is the same on any day."""
    with configure(timestamp_resolution=step):
        assert json.loads(notice.example())["timestamp"] == shown


def test_the_hash_is_the_same_on_any_day(undecided) -> None:
    """The hash of a notice does not depend on the day, so it can be computed again later."""
    before = notice.text_sha256(HOME)
    undecided.now.advance(400 * 86_400)

    assert notice.text_sha256(HOME) == before
    assert notice.text_sha256(HOME, everywhere=True) != before


def test_rendering_records_nothing(place) -> None:
    """While recording is on, rendering notice, samples and dictionary records no event."""
    notice.lines(place.home)
    notice.samples()
    notice.dictionary()

    assert not place.log.exists()


# -- the dictionary ----------------------------------------------------------------------------


def test_every_row_is_in_the_dictionary() -> None:
    """The dictionary has each event with question and owner, and each field with all columns."""
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
    """The dictionary contains nothing random, no day and no path."""
    assert notice.dictionary() == notice.dictionary()


def test_context_keys_are_in_the_dictionary() -> None:
    """The dictionary lists the context keys of the tool with their class."""
    with configure(context={"task_id": "identifier", "mode": ["b", "a"]}):
        text = notice.dictionary()

    assert "| `context.task_id` | identifier |" in text
    assert "| `context.mode` | one of a, b |" in text


# -- the schema --------------------------------------------------------------------------------

TYPES = {"string": str, "integer": int, "object": dict, "boolean": bool, "number": (int, float)}


def matches(schema: dict, value: object) -> bool:
    """Return whether a value matches a schema. It supports only the keywords in use."""
    if "anyOf" in schema:
        return any(matches(one, value) for one in schema["anyOf"])
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
            key in known and matches(known[key], item) for key, item in value.items()
        )
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_samples_match_the_schema() -> None:
    """One event of each kind matches the JSON Schema, which allows no other keys."""
    schema = notice.json_schema()
    samples = notice.samples()

    assert [s["event_type"] for s in samples] == list(catalog.EVENTS)
    assert all(matches(schema, sample) for sample in samples)
    assert not matches(schema, {**samples[0], "hostname": "x"})
    assert not matches(schema, {**samples[0], "timestamp": "yesterday"})
    assert list(schema["properties"]) == list(catalog.ORDER)


def test_context_matches_the_schema() -> None:
    """The schema contains declared context keys with their class, and no other keys."""
    context = {"task_id": "identifier", "tries": "measure", "dry": "flag", "mode": ["a", "b"]}
    with configure(context=context), capture_events() as captured:
        values = {"task_id": "T-1", "tries": 3, "dry": True, "mode": "b", "other": 1}
        pipeline.emit({"event": "agent.invoked", "agent": "x", "context": values})
        schema = notice.json_schema()

    assert matches(schema, captured.events[0])
    assert set(captured.events[0]["context"]) == set(context)
    assert not matches(notice.json_schema(), captured.events[0])
