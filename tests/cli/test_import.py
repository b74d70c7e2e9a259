"""`telemetry-kit import` takes the events of another log or of an export, each once."""

import contextlib
import gzip
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from telemetry_kit import role_session, track_role_event, tracks
from telemetry_kit.cli import main
from telemetry_kit.consent import cache
from telemetry_kit.storage import reader
from tests.consent.prompt_helpers import CTRL_C, CTRL_D, at_terminal

COMMAND = "import"


def day(back: int) -> str:
    """Return the day so many days before today in UTC."""
    return f"{datetime.now(UTC) - timedelta(days=back):%Y-%m-%d}"


def original(back: int, **fields) -> dict:
    """Return an entry of the original program, from so many days ago."""
    return {"event_type": "agent.invoked", "timestamp": f"{day(back)}T00:20:30.123456", **fields}


def write(place, name: str, *entries) -> str:
    """Write a file of one entry a line beside the project, and return its path."""
    path = place.root.parent / name
    lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def command(place, *words: str) -> "CompletedProcess[str]":
    """Run a command in the project, in this process, with the real clock."""
    out, err = io.StringIO(), io.StringIO()
    with (
        cache.override_runtime(place.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(["--project", str(place.root), *words])
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())


def take(place, path: str, *words: str) -> "CompletedProcess[str]":
    """Run `telemetry-kit import` in the project."""
    return command(place, COMMAND, path, *words)


def events(place) -> list[dict]:
    """Return all stored events of a project."""
    return list(reader.read(place.home))


@pytest.fixture
def declared(place):
    """Return a project that declares one agent, one error and two context keys."""
    with cache.override_runtime(place.environ):
        place.configure(
            app="flowspec", agents=["planner"], context={"items": "measure", "ticket": "identifier"}
        )
        track_role_event("role.selected", role="dev", agent="planner", project_root=place.root)
    return place


@pytest.fixture
def other(make_place):
    """Return a project of another user, in which a session with two spans is recorded."""
    place = make_place("elsewhere")
    (place.root / ".git").mkdir()
    with cache.override_runtime(place.environ):
        place.configure(agents=["planner"], context={"ticket": "identifier"})

        @tracks("agent.invoked", agent="planner")
        def inner() -> None:
            track_role_event(
                "handoff.clicked", source_agent="secret-name", context={"ticket": "T-1"}
            )

        with role_session("dev", project_root=place.root):
            inner()
    return place


def test_a_log_of_the_original(declared) -> None:
    """Names become pseudonyms unless they are declared; everything else is dropped and counted."""
    path = write(
        declared,
        "old.jsonl",
        original(3, role="dev", agent="planner", context={"items": 1234, "path": "/home/x"}),
        original(2, agent="secret-agent", metadata={"hostname_hash": "abc"}),
        "no event",
    )
    # The commands of a host know its context keys; the command line of this package does not.
    done = take(declared, path, "--yes")
    first, second = (e for e in events(declared) if e["source"] == "import")

    assert 0 == done.returncode
    assert ("dev", "planner", {"items": 1230}) == (first["role"], first["agent"], first["context"])
    assert [1, 1] == [first["dropped"], second["dropped"]]
    assert f"{day(3)}T00:00:00Z" == first["timestamp"]
    assert second["agent"] == declared.key.pseudonym("agent", "secret-agent")
    assert {"invoker", "app_version", "session_id"}.isdisjoint(first)
    assert [0, 1] == [first["seq"], second["seq"]]
    assert "1  lines that are no event" in done.stdout
    assert "2  values left out" in done.stdout
    stored_bytes = b"".join(p.read_bytes() for p in declared.log.parent.iterdir() if p.is_file())
    assert b"secret-agent" not in stored_bytes
    assert b"hostname" not in stored_bytes
    assert 0 == command(declared, "verify").returncode


def test_a_second_import_adds_nothing(declared) -> None:
    """Events that are stored already, or twice in the file, are counted once."""
    entries = [original(back, agent="planner") for back in (5, 4, 3)]
    path = write(declared, "old.jsonl", *entries, entries[0])
    take(declared, path, "--yes")
    before = events(declared)
    again = take(declared, path, "--yes")
    longer = take(declared, write(declared, "new.jsonl", *entries, original(2)), "--yes")

    assert 4 == len(before)
    assert "3  stored already" in again.stdout
    assert "1  twice in the file" in again.stdout
    assert "Imported 0 events" in again.stderr
    assert "Imported 1 event " in longer.stderr
    assert 5 == len(events(declared)) == len({e["event_id"] for e in events(declared)})


def test_a_new_key_does_not_import_twice(declared) -> None:
    """The IDs depend on a key that is never replaced."""
    path = write(declared, "old.jsonl", original(3, agent="secret"))
    take(declared, path, "--yes")
    command(declared, "rotate-key", "--yes")

    assert "Imported 0 events" in take(declared, path, "--yes").stderr


def test_nothing_is_written_before_the_answer(declared) -> None:
    """Without --yes the command shows what it would take; without a terminal it exits with 2."""
    path = write(declared, "old.jsonl", original(3, agent="planner"), original(2, agent="x"))
    # The first command in a project may create the lock file.
    command(declared, "status")
    before = declared.tree()
    done = take(declared, path)

    assert 2 == done.returncode
    assert f"2  to import, from {day(3)} to {day(2)} (UTC)" in done.stdout
    assert "1  undeclared names, which become pseudonyms" in done.stdout
    assert "add --yes" in done.stderr
    assert before == declared.tree()
    assert 1 == len(events(declared))


TERMINAL = "import sys; from telemetry_kit.cli import main; sys.exit(main())"


@pytest.mark.tty
@pytest.mark.parametrize(
    ("keys", "code", "imported", "end"),
    [
        ("y\r", 0, 1, "Imported 1 event into "),
        ("\r", 0, 0, "Nothing was changed."),
        (CTRL_D, 0, 0, "Nothing was changed."),
        (CTRL_C, 130, 0, ""),
    ],
    ids=["yes", "enter", "end of file", "Ctrl-C"],
)
def test_the_question_at_a_terminal(declared, keys, code, imported, end) -> None:
    """The user sees the counts before the question; only `y` stores the events."""
    path = write(declared, "old.jsonl", original(3, agent="planner"))
    seen = at_terminal(declared, TERMINAL, keys, args=[COMMAND, path], prompt="[y/N] ")

    assert code == seen.code
    # The command knows the names that the program has declared.
    assert ["planner"] * imported == [e["agent"] for e in events(declared) if "agent" in e][:-1]
    assert f"{path}: 1 event\n        1  to import, from {day(3)}" in seen.stdout
    assert seen.screen.startswith("Import 1 event into ")
    assert end in seen.screen


def test_a_dry_run(declared) -> None:
    """`--dry-run` shows the counts and changes nothing, also as JSON and with `--yes`."""
    entries = [original(back, agent="x", context={"path": 1}) for back in (91, 3, 3, 2, -1)]
    path = write(declared, "old.jsonl", *entries, "no event")
    command(declared, "status")
    before = declared.tree()
    done = take(declared, path, "--dry-run")
    as_json = take(declared, path, "--dry-run", "--yes", "--json")

    assert (0, 0, "") == (done.returncode, as_json.returncode, as_json.stderr)
    assert f"2  to import, from {day(3)} to {day(2)} (UTC)" in done.stdout
    assert before == declared.tree()
    assert {
        "dry_run": True,
        "events": 5,
        "imported": 2,
        "first_day": day(3),
        "last_day": day(2),
        "left_out": {
            "stored": 0,
            "repeated": 1,
            "too_old": 1,
            "in_future": 1,
            "not_covered": 0,
        },
        "malformed_lines": 1,
        "undeclared_names": 1,
        "dropped_values": 2,
        "incomplete": None,
    } == json.loads(as_json.stdout)


def test_json(declared) -> None:
    """`--json` prints what was imported, and asks no question."""
    path = write(declared, "old.jsonl", original(3))
    refused = take(declared, path, "--json")
    first, second = (take(declared, path, "--yes", "--json") for _ in range(2))
    found = [json.loads(done.stdout) for done in (first, second)]

    assert (2, "") == (refused.returncode, refused.stdout)
    assert "--json needs --yes or --dry-run: nothing was imported" in refused.stderr
    assert [(False, 1, 0), (False, 0, 1)] == [
        (one["dry_run"], one["imported"], one["left_out"]["stored"]) for one in found
    ]


def test_without_consent_nothing_is_written(undecided) -> None:
    """One sentence, exit code 1, and no file."""
    path = write(undecided, "old.jsonl", original(1))
    before = undecided.tree()
    for words in ((), ("--yes",)):
        done = undecided.python("-m", "telemetry_kit", "--app", "flowspec", COMMAND, path, *words)

        assert 1 == done.returncode
        assert done.stderr.startswith("telemetry-kit: nothing was imported, because recording is")
        assert 1 == done.stderr.count("\n")
    assert before == undecided.tree()


@pytest.mark.parametrize("name", ["e.jsonl", "e.json", "e.csv", "e.csv.gz", "e.json.gz"])
def test_our_own_exports(declared, other, name) -> None:
    """An export of another user keeps its links; its ids and pseudonyms are replaced."""
    path = str(declared.root.parent / name)
    command(other, "export", "--precise", "-o", path)
    given = events(other)
    done = take(declared, path, "--yes")
    found = [e for e in events(declared) if e["source"] == "import"]

    assert 0 == done.returncode, done.stderr
    assert [e["event_type"] for e in given] == [e["event_type"] for e in found]
    for field in ("session_id", "span_id", "parent_id", "source_agent"):
        pairs = {(a.get(field), b.get(field)) for a, b in zip(given, found, strict=True)}
        known = {(a, b) for a, b in pairs if a is not None}
        assert known
        assert all(a != b for a, b in known)
        assert len(known) == len({a for a, _ in known}) == len({b for _, b in known})
    spans = {e["span_id"] for e in found if "span_id" in e}
    assert spans & {e.get("parent_id") for e in found}
    assert {"planner"} == {e["agent"] for e in found if "agent" in e}
    assert {e["project_id"] for e in found} == {e["project_id"] for e in events(declared)}


def test_all_formats_have_the_same_ids(declared, other) -> None:
    """The same event is imported once from a JSON file and from a table."""
    for name in ("e.csv", "e.json", "e.jsonl"):
        path = str(declared.root.parent / name)
        command(other, "export", "-o", path)
        done = take(declared, path, "--yes")

    assert f"{len(events(other))}  stored already" in done.stdout
    assert len(events(other)) + 1 == len(events(declared))


def test_the_own_export_of_this_project(declared) -> None:
    """Nothing is stored twice; after a deletion, equal names are equal again."""
    with cache.override_runtime(declared.environ):
        for name in ("x", "y", "x"):
            track_role_event("agent.invoked", agent=name, project_root=declared.root)
    path = str(declared.root.parent / "own.csv")
    command(declared, "export", "-o", path)
    before = [e["agent"] for e in events(declared)]

    assert "Imported 0 events" in take(declared, path, "--yes").stderr
    declared.log.unlink()
    assert "Imported 4 events" in take(declared, path, "--yes").stderr
    after = [e["agent"] for e in events(declared)]
    assert ["planner", *map(declared.key.pseudonym, ["agent"] * 3, before[1:])] == after


@pytest.mark.parametrize(
    "text",
    ["", "hello\n", '{"resourceLogs":[]}', "[1, 2]", "a,b\n1,2\n", "\0\0\0", "[{]\n", '{"a":\n'],
)
def test_files_of_another_kind(declared, text) -> None:
    """One sentence, and nothing is changed."""
    path = declared.root.parent / "file"
    path.write_text(text)
    done = take(declared, str(path), "--yes")

    assert (0 if not text.strip("\0") else 1) == done.returncode
    assert 1 == len(events(declared))


def test_an_array_with_other_line_breaks(declared) -> None:
    """An array of another program has the events of the lines; a damaged entry is counted."""
    entries = [original(4, agent="planner", role="é" * n) for n in range(1, 700)]
    path = declared.root.parent / "e.json"
    text = json.dumps([*entries, {"x": 1}], indent=2, ensure_ascii=False)
    path.write_text(text, encoding="utf-8-sig")
    done = take(declared, str(path), "--yes")
    again = take(declared, write(declared, "old.jsonl", *entries), "--yes")

    assert "Imported 699 events" in done.stderr
    assert "1  lines that are no event" in done.stdout
    assert "699  stored already" in again.stdout


def test_a_file_of_the_log(declared) -> None:
    """The log of the project is no file to import, under whatever name."""
    link = declared.root.parent / "link.jsonl"
    link.symlink_to(declared.log)
    for path in (declared.log, link):
        done = take(declared, str(path), "--yes")

        assert 1 == done.returncode
        assert f"{path} belongs to the log of this project" in done.stderr
    assert 1 == len(events(declared))


def test_files_that_cannot_be_read(declared) -> None:
    """A missing file, a folder and a damaged archive are each one sentence."""
    whole = gzip.compress(json.dumps(original(3)).encode() + b"\n")
    (declared.root.parent / "cut.gz").write_bytes(whole[:-12])
    (declared.root.parent / "end.gz").write_bytes(whole[:-4])
    for name in ("missing.jsonl", ""):
        done = take(declared, str(declared.root.parent / name), "--yes")

        assert (1, 1) == (done.returncode, done.stderr.count("\n"))
    cut = take(declared, str(declared.root.parent / "cut.gz"), "--yes")

    assert 1 == cut.returncode
    assert "the archive is" in cut.stderr
    end = take(declared, str(declared.root.parent / "end.gz"), "--yes")
    assert 1 == end.returncode
    assert "was not read to its end" in end.stderr


def test_the_page_about_importing_shows_the_real_output(declared) -> None:
    """Each command of the page prints the output shown, with days before today."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "import.md").read_text()
    for shown, back in (("2026-06-02", 120), ("2026-11-20", 3), ("2026-11-21", 2)):
        page = page.replace(shown, day(back))
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (declared.root / "old.jsonl").write_text(dict(blocks)["json"])
    declared.log.unlink()
    console = "".join(text for language, text in blocks if language == "console")
    commands = re.split(r"^\$ telemetry-kit ", console, flags=re.MULTILINE)[1:]
    for line, _, expected in (text.partition("\n") for text in commands):
        done = command(declared, *line.split())
        pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
        lines = (done.stdout + done.stderr).splitlines()

        assert 0 == done.returncode
        assert re.fullmatch(pattern, "\n".join(map(str.rstrip, lines)), re.DOTALL), (line, done)
    assert 4 == len(commands)
