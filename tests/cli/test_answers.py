"""`telemetry-kit answers` answers each question in one sentence."""

import json
from collections.abc import Iterator

import pytest

from telemetry_kit.insights.counters import READ
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode

WORK = {"role": "dev", "command": "/qa:check", "agent": "writer", "workflow": "release"}
EXTRA_FIELDS = {
    "role.changed": {"role": "qa", "previous_role": "dev"},
    "handoff.clicked": {"source_agent": "writer", "target_agent": "tester"},
    "handoff.completed": {"source_agent": "writer", "target_agent": "tester", "outcome": "ok"},
}
END_FIELDS = {
    "completed": {"outcome": "ok"},
    "failed": {"outcome": "error", "error_type": "KeyError"},
}


def every_event() -> Iterator[dict]:
    """Yield each of the 14 event types once, and two events of work that starts twice."""
    for number, name in enumerate([*catalog.EVENTS, "command.executed"]):
        kind, _, suffix = name.partition(".")
        fields = {"role": "dev", **({kind: WORK[kind]} if kind in WORK else {})}
        if suffix in END_FIELDS and kind != "handoff":
            fields |= {**END_FIELDS[suffix], "duration_ms": 2048}
        fields |= EXTRA_FIELDS.get(name, {})
        event = {
            "schema_version": "1.0",
            "event_id": f"{number:016x}",
            "event_type": name,
            "timestamp": "2026-11-22T00:00:00Z",
            "invoker": "person",
            "app_version": "1.2.0",
            **fields,
        }
        yield {field: event[field] for field in catalog.ORDER if field in event}


def fill(place, *events) -> None:
    """Append events to the active log of the project."""
    place.log.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log.open("ab") as log:
        log.writelines(map(encode, events))
    place.log.chmod(0o600)


def answers(place, *args, **env):
    """Run `telemetry-kit answers` in the project."""
    return place.python("-m", "telemetry_kit", "answers", *args, env=env)


ANSWERS = {
    "Which roles are selected most?": "dev (1, 50%) and qa (1, 50%).",
    "How often do people change roles within a session?": (
        "Once, in 1 session; only from dev to qa (1)."
    ),
    "Which agents work for which role?": "dev: only writer (2).",
    "Which agents finish, and how long do they take?": (
        "1 of 2 that ended was completed (50%): writer 50%, half within 2.05 s."
    ),
    "Which agents fail, and with what kind of error?": "writer 1 of 2, only KeyError (1).",
    "Are hand-offs followed or ignored?": (
        "1 was followed, only writer -> tester (1); an ignored hand-off leaves no event."
    ),
    "Which followed hand-offs reach the next agent?": "1 of 1 (100%): writer -> tester 100%.",
    "Which commands does each role use?": (
        "dev: only /qa:check (2); another role's commands were used 2 times, only /qa:check by "
        "dev (2)."
    ),
    "Which commands finish, and how long do they take?": (
        "1 of 2 that ended was completed (50%): /qa:check 50%, half within 2.05 s."
    ),
    "Which commands fail, and with what kind of error?": "/qa:check 1 of 2, only KeyError (1).",
    "Which workflows are started?": "release (1).",
    "Which workflows are completed?": (
        "1 of 2 that ended was completed (50%): release 50%, half within 2.05 s."
    ),
    "Which workflows fail?": "release 1 of 2, only KeyError (1).",
    "Who runs the program: people, or coding agents?": "person (15, 100%).",
    "Do commands fail more often since the last version of the program?": "1.2.0 1 of 2 (50%).",
}
QUESTIONS = list(ANSWERS)


def test_each_question_and_its_answer(undecided):
    """Each question is printed once, with one sentence; those of the catalog are the first."""
    fill(undecided, *every_event())
    done = answers(undecided, COLUMNS="200")
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert lines.pop() == "From 15 events, 2026-11-22 (UTC)."
    assert lines[::2] == QUESTIONS
    assert dict(zip(lines[::2], [line.strip() for line in lines[1::2]], strict=True)) == ANSWERS
    declared = dict.fromkeys(event.question for event in catalog.EVENTS.values())
    assert QUESTIONS[: len(declared)] == list(declared)


def clicked(*counts):
    """Yield one hand-off for each click, with a target agent for each count."""
    return [
        {**event, "target_agent": f"agent-{at}"}
        for at, count in enumerate(counts)
        for event in [stored("handoff.clicked", source_agent="writer")] * count
    ]


def stored(kind, **fields):
    """Return a stored event of this type."""
    return {
        "schema_version": "1.0",
        "event_id": "0" * 16,
        "event_type": kind,
        "timestamp": "2026-11-22T00:00:00Z",
        **fields,
    }


def with_errors(*counts):
    """Return failed commands, with one error type for each count."""
    return [
        stored("command.failed", command="/a:b", error_type=kind)
        for kind, count in zip(("KeyError", "OSError", "TypeError"), counts, strict=False)
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("events", "phrase"),
    [
        (clicked(4), "4 were followed, only writer -> agent-0 (4);"),
        (clicked(3, 2), "5 were followed, mostly writer -> agent-0 (3 of 5);"),
        (clicked(3, 2, 1), "6 were followed, most often writer -> agent-0 (3 of 6);"),
        (
            clicked(2, 2, 1),
            "writer -> agent-0 and writer -> agent-1 equally often (2 of 5 each);",
        ),
        (clicked(1, 1, 1, 1, 1), "writer -> agent-2 and 2 more equally often (1 of 5 each);"),
        (with_errors(1, 1, 1), "KeyError, OSError and TypeError equally often (1 of 3 each)."),
        (with_errors(2, 1, 1), "/a:b 4 of 4, most often KeyError (2 of 4)."),
        (with_errors(3, 1), "/a:b 4 of 4, mostly KeyError (3 of 4)."),
        ([*with_errors(2), *[stored("command.failed", command="/a:b")] * 3], "(2 of 5)."),
    ],
)
def test_words_for_frequency(undecided, events, phrase):
    """More than half is "mostly", and less is "most often".

    A tie is "equally often". Each phrase has its count and the total.
    """
    log = [{name: e[name] for name in catalog.ORDER if name in e} for e in events]
    fill(undecided, *({**e, "event_id": f"{n:016x}"} for n, e in enumerate(log)))
    output = answers(undecided, COLUMNS="400").stdout

    assert phrase in output


def test_json_is_the_same(undecided):
    """`--json` prints each question, answer and source event at any terminal width."""
    fill(undecided, *every_event())
    rows = json.loads(answers(undecided, "--json", COLUMNS="20").stdout)

    assert {row["question"]: row["answer"] for row in rows} == ANSWERS
    assert sorted(name for row in rows for name in row["events"]) == sorted(catalog.EVENTS)


def test_without_events(undecided):
    """Without events, each question is printed, and stderr reports once that no events exist."""
    done = answers(undecided, COLUMNS="200")
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "no events yet\n")
    assert lines[::2] == QUESTIONS
    assert {line.strip() for line in lines[1::2]} == {"Nothing was recorded yet."}
    assert undecided.tree() == []


@pytest.mark.parametrize("veto", ["no consent", "do not track"])
def test_without_consent(place, undecided, veto):
    """The command reads stored events without consent and under a veto."""
    fill(undecided, *every_event())
    env = {"DO_NOT_TRACK": "1"} if veto == "do not track" else {}
    rows = json.loads(answers(undecided, "--json", **env).stdout)

    assert {row["question"]: row["answer"] for row in rows} == ANSWERS


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_answers_fit_the_terminal(undecided, columns):
    """No line is wider than the terminal, and every word is printed."""
    fill(undecided, *every_event())
    narrow = answers(undecided, COLUMNS=str(columns)).stdout
    phrase = "".join(question + answer for question, answer in ANSWERS.items())
    phrase += "From 15 events, 2026-11-22 (UTC)."

    assert max(map(len, narrow.splitlines())) <= columns
    assert "".join(narrow.split()) == "".join(phrase.split())


def test_a_period(undecided):
    """A period selects its events. An empty period is reported on stderr."""
    fill(undecided, *every_event())
    inside = answers(undecided, "--since", "2026-11-22", "--json")
    outside = answers(undecided, "--since", "2026-11-23")

    assert json.loads(inside.stdout)[0]["answer"] == ANSWERS[QUESTIONS[0]]
    assert outside.returncode == 0
    assert outside.stderr == "no such events: see telemetry-kit stats\n"
    assert ANSWERS[QUESTIONS[0]] not in outside.stdout


def test_damage_is_reported(undecided):
    """Malformed lines are counted on stderr, and the other events are answered from."""
    fill(undecided, *every_event())
    with undecided.log.open("ab") as log:
        log.write(b"nonsense\n")
    done = answers(undecided, COLUMNS="200")

    assert done.stderr == "telemetry-kit: telemetry.jsonl: 1 malformed line\n"
    assert ANSWERS[QUESTIONS[0]] in done.stdout


def test_control_characters_in_names(undecided):
    """A control character in a stored name is printed escaped."""
    old = {
        "event_type": "role.selected",
        "timestamp": "2025-12-01T10:20:31",
        "role": "\x1b[2J\x9b1mdev",
    }
    fill(undecided)
    undecided.log.write_text(json.dumps(old) + "\n")
    done = answers(undecided)

    assert "\\x1b[2J\\x9b1mdev (1, 100%)." in done.stdout
    assert "\x1b" not in done.stdout
    assert "\x9b" not in done.stdout


# Fields that no answer uses, with the command that needs each of them.
OTHER_USES = {
    "schema_version": "readers tell versions apart by it",
    "event_id": "readers tell two events apart by it",
    "seq": "the order within a process, for `view --tree`",
    "parent_id": "`view --tree`",
    "project_id": "`view --project`",
    "exit_code": "`view`: how a command ended",
    "source": "`view --wide`: which part of the library recorded it",
    "context": "`view`: what the tool itself declared",
    "key_epoch": "`find` and `forget`: which key made a pseudonym",
}


def test_every_field_is_read():
    """Each field is read by an answer or by a command, and never by both."""
    read = {*READ, "event_type", "timestamp"}

    assert not read & set(OTHER_USES)
    assert set(catalog.FIELDS) == read | set(OTHER_USES)


def runs(name, started, completed, failed, span=True):
    """Return the events of agents, of which some were killed."""
    ends = [("agent.completed", {}), ("agent.failed", {"error_type": "KeyError"})]
    kinds = [("agent.invoked", {})] * started + [ends[0]] * completed + [ends[1]] * failed
    spans = {"span_id": "0123456789ab"} if span else {}
    return [stored(kind, agent=name, **spans, **more) for kind, more in kinds]


@pytest.mark.parametrize(
    ("events", "finish", "fail"),
    [
        (
            runs("writer", 8, 2, 1),
            "2 of 3 that ended were completed (67%): writer 67%. 5 of 8 never ended.",
            "writer 1 of 3 that ended, only KeyError (1). 5 of 8 never ended.",
        ),
        (runs("writer", 8, 0, 0), "8 of 8 never ended.", "8 of 8 never ended."),
        (
            runs("writer", 2, 1, 0) + runs("tester", 2, 2, 0),
            (
                "3 of 3 that ended were completed (100%): tester 100% and writer 100%. "
                "1 of 4 never ended: writer 1 of 2."
            ),
            "None of those that ended failed. 1 of 4 never ended: writer 1 of 2.",
        ),
        (
            runs("writer", 8, 2, 1, span=False),
            "2 of 3 that ended were completed (67%): writer 67%.",
            "writer 1 of 3, only KeyError (1).",
        ),
        (runs("writer", 1, 2, 0), "2 of 2 that ended were completed (100%): writer 100%.", "None"),
    ],
    ids=["some", "all", "two-agents", "no-spans", "start-expired"],
)
def test_work_that_never_ended(undecided, events, finish, fail):
    """The rates are of the work that ended. The answers name the work that did not."""
    log = [{name: e[name] for name in catalog.ORDER if name in e} for e in events]
    fill(undecided, *({**e, "event_id": f"{n:016x}"} for n, e in enumerate(log)))
    found = {
        row["question"]: row["answer"] for row in json.loads(answers(undecided, "--json").stdout)
    }

    assert finish == found["Which agents finish, and how long do they take?"]
    assert found["Which agents fail, and with what kind of error?"].startswith(fail)
