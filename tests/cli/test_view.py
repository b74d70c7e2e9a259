"""`telemetry-kit view` prints data on stdout and messages on stderr."""

import json
import os
import signal
import subprocess
import sys

import pytest

from telemetry_kit.cli.commands.view import TITLES, rows_as_table
from telemetry_kit.cli.tables import display_width
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import Following
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import rotation

ALL = {
    "role": "dev",
    "command": "/dev:build",
    "agent": "backend-engineer",
    "workflow": "spec-to-code",
    "source_agent": "backend-engineer",
    "target_agent": "quality-guardian",
    "previous_role": "pm",
    "outcome": "error",
    "error_type": "ValueError",
    "exit_code": 3,
    "duration_ms": 64,
    "dropped": 2,
    "context": {"requirements": 3},
}


def stored(number, **fields):
    """Return a stored event with this number and these fields."""
    return {
        "schema_version": "1.0",
        "event_id": f"{number:016x}",
        "event_type": "command.failed",
        "timestamp": "2026-11-22T00:00:00Z",
        "seq": number,
        **fields,
    }


def fill(place, *events):
    """Append events to the active log without the pipeline."""
    place.log.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log.open("ab") as log:
        log.writelines(encode(event) for event in events)


def view(place, *args, **env):
    """Run `telemetry-kit view` in the project."""
    return place.python("-m", "telemetry_kit", "view", *args, env=env)


def without_spaces(text):
    """Return a text without white space."""
    return "".join(text.split())


def test_no_events_yet(undecided):
    """Without events, stderr reports it, the exit code is 0, and no file is created."""
    done = view(undecided)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no events yet\n")
    assert undecided.tree() == []


def test_newest_first(place):
    """The newest event is first, also while recording is off."""
    done = place.run(
        "from telemetry_kit import role_session, track_role_event\n"
        "with role_session('dev'):\n"
        "    track_role_event('agent.invoked', agent='someone')"
    )
    off = view(place, FLOWSPEC_TELEMETRY_DISABLED="1")
    rows = [line.split() for line in off.stdout.splitlines()]

    assert done.returncode == 0, done.stderr
    assert (off.returncode, off.stderr) == (0, "")
    assert rows[0] == ["when", "(UTC)", "event", "role", "agent"]
    assert [row[1] for row in rows[2:]] == ["agent.invoked", "role.selected"]
    assert rows[2][3].startswith("h:")


def test_limit(undecided):
    """The default limit is 20 events, and `-n` changes it."""
    fill(undecided, *(stored(number) for number in range(30)))
    ids = [json.loads(line)["seq"] for line in view(undecided, "--json").stdout.splitlines()]
    three = view(undecided, "--json", "-n", "3").stdout.splitlines()
    many = view(undecided, "--json", "--limit", "1000").stdout.splitlines()

    assert ids == list(range(29, 9, -1))
    assert [json.loads(line)["seq"] for line in three] == [29, 28, 27]
    assert len(many) == 30


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), "20 of 1,230 events shown: -n N shows more"),
        (("-n", "1229"), "1,229 of 1,230 events shown: -n N shows more"),
        (("-n", "1230"), None),
        (("--event", "role.selected", "-n", "1"), "1 of 30 events shown: -n N shows more"),
        (("--role", "qa", "-n", "1"), "1 of 30 events shown: -n N shows more"),
        (("--role", "qa"), "20 of 30 events shown: -n N shows more"),
        (("--since", "2026-11-22", "-n", "1"), "1 of 1,230 events shown: -n N shows more"),
        (("--since", "2026-11-22", "-n", "1230"), None),
        (("--tree", "-n", "2"), "2 of 31 sessions shown: -n N shows more"),
        (("--tree", "-n", "31"), None),
    ],
)
def test_how_many_are_shown(undecided, args, expected):
    """If there are more events or sessions, the last line counts them and names the option."""
    fill(undecided, *(stored(number) for number in range(1_200)))
    for number in range(30):
        more = {"role": "qa", "session_id": f"{number:012x}"}
        fill(undecided, stored(1_200 + number, event_type="role.selected", **more))
    done = view(undecided, *args)
    last = done.stdout.splitlines()[-1]

    assert (done.returncode, done.stderr) == (0, "")
    assert (last if "shown" in last else None) == expected


@pytest.mark.parametrize("value", ["0", "-1", "ten", "1.5", ""])
def test_an_invalid_limit(undecided, value):
    """An invalid limit is reported in one sentence on stderr, and the exit code is 2."""
    fill(undecided, stored(1))
    done = view(undecided, "-n", value)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"telemetry-kit: -n/--limit {value!r}: write a whole number of at least 1\n"
    )


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_json_is_the_record(undecided, columns):
    """`--json` prints each stored event unchanged on one line, at any terminal width."""
    fill(undecided, stored(1, **ALL), stored(2))
    done = view(undecided, "--json", COLUMNS=columns)

    assert done.stdout.encode().splitlines() == undecided.log.read_bytes().splitlines()[::-1]


@pytest.mark.parametrize("columns", [20, 40, 72, 80, 100, 120, 200])
def test_the_table_fits_and_is_complete(undecided, columns):
    """No line is wider than the terminal, and every value is printed."""
    fill(undecided, stored(1, **ALL), stored(2, command="c" * 128, agent="a" * 128))
    done = view(undecided, COLUMNS=str(columns))
    text = without_spaces(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert text.count("c") >= 128
    assert text.count("a") >= 128
    only = without_spaces(view(undecided, "-n", "2", COLUMNS="1000").stdout)
    for value in ("2026-11-22", "command.failed", "/dev:build", "quality-guardian", "exit3"):
        assert value in only
    for value in ("64ms", "ValueError", "requirements=3", "2dropped", "before:pm", "error"):
        assert value in only
    if columns == 20 or columns >= 120:
        for value in ("/dev:build", "ValueError", "requirements=3", "exit3"):
            assert value in text


@pytest.mark.parametrize("width", [10, 20, 21, 40, 80])
def test_wide_characters_fit(width):
    """Widths are counted in columns, and no wide character is lost."""
    row = ["2026-11-22", "role.selected", "日本語" * 30, "/日:本", "語" * 9, "ok", "本" * 40]
    lines = list(rows_as_table([row], width))

    assert max(map(display_width, lines)) <= width
    for letter in "日本語":
        assert "".join(lines).count(letter) == "".join(row).count(letter)


def test_the_table_keeps_every_character():
    """At any width, folding loses no character of a cell."""
    row = [f"{name}-{'x' * 30}" for name in TITLES]
    letters = sorted(without_spaces("".join(row)))
    headings = sorted("".join(TITLES))
    for width in range(10, 300):
        lines = list(rows_as_table([row], width))
        found = sorted(without_spaces("".join(lines).replace("-" * 4, "")))

        assert all(len(line) <= width for line in lines), width
        for letter in set(letters) - {"-"}:
            assert found.count(letter) >= letters.count(letter), width
    assert headings


def test_control_characters_are_escaped(undecided):
    """Control characters are printed escaped, and wide characters keep columns aligned."""
    fill(undecided)
    bad = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30"}
    lines = [
        {**bad, "role": "\x1b[31mred\x07"},
        {**bad, "role": "\u202eevil"},
        {**bad, "role": "日本"},
    ]
    undecided.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = view(undecided, PYTHONUTF8="1")

    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert r"\x1b[31mred\x07" in done.stdout
    assert "2025-12-01 10:20:30  role.selected  日本" in done.stdout


def test_malformed_lines_of_a_file_are_counted(undecided):
    """Malformed lines are counted on stderr, and the events are printed on stdout."""
    fill(undecided, stored(1))
    with undecided.log.open("ab") as log:
        log.write(b"nonsense\n" * 3)
    fill(undecided, stored(2))
    done = view(undecided, "--json")

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == "telemetry-kit: telemetry.jsonl: 3 malformed lines\n"


PAGED = """
import sys
from telemetry_kit.cli import main
from telemetry_kit.cli.commands import view
view.PAGE_EVENTS = 7
sys.exit(main(["view", *sys.argv[1:]]))
"""


def test_many_events_are_read_in_pages(undecided):
    """A long list is read in pages, and each event is printed once."""
    fill(undecided, *(stored(n) for n in range(30)))
    paged = undecided.python("-c", PAGED, "-n", "10000000", "--json")
    table = undecided.python("-c", PAGED, "-n", "10000000")

    assert (paged.returncode, paged.stderr) == (0, "")
    assert [json.loads(line)["seq"] for line in paged.stdout.splitlines()] == [*range(29, -1, -1)]
    assert table.stdout.count("command.failed") == 30


@pytest.mark.parametrize("count", [5, 2_000])
def test_a_closed_pipe(undecided, count):
    """If the reader closes the pipe, the command exits with 0 and prints no error."""
    fill(undecided, *(stored(number) for number in range(count)))
    code = (
        "import os, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'telemetry_kit', 'view', '-n', '9999'],"
        " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.close()\n"
        "print(p.stderr.read(), p.wait())"
    )

    assert undecided.run(code).stdout == "b'' 0\n"


def test_another_project(undecided, make_place):
    """`--project` selects the project from any working directory."""
    other = make_place("other")
    fill(other, stored(5))
    done = undecided.python(
        "-m", "telemetry_kit", "--project", str(other.root), "view", "--json", cwd=os.sep
    )

    assert json.loads(done.stdout)["seq"] == 5


def sessions():
    """Return a session with nested work and a failure, and one that has not ended."""
    first = {"session_id": "5e8446348487", "role": "dev"}
    return [
        {"event_type": "role.selected", **first},
        {"event_type": "command.executed", **first, "command": "/dev:build", "span_id": "a" * 12},
        {
            "event_type": "agent.invoked",
            **first,
            "agent": "writer",
            "span_id": "b" * 12,
            "parent_id": "a" * 12,
        },
        {
            "event_type": "agent.failed",
            **first,
            "agent": "writer",
            "span_id": "b" * 12,
            "parent_id": "a" * 12,
            "outcome": "error",
            "error_type": "ValueError",
            "duration_ms": 64,
        },
        {
            "event_type": "command.completed",
            **first,
            "command": "/dev:build",
            "span_id": "a" * 12,
            "outcome": "ok",
            "duration_ms": 2048,
        },
        {"event_type": "role.selected", "session_id": "0" * 12, "role": "qa"},
        {
            "event_type": "command.executed",
            "session_id": "0" * 12,
            "role": "qa",
            "command": "/qa:check",
            "span_id": "c" * 12,
        },
    ]


def test_tree(undecided):
    """Sessions are printed newest first, with nested work and outcomes."""
    fill(undecided, *(stored(n, **event) for n, event in enumerate(sessions())))
    done = view(undecided, "--tree", COLUMNS="80", PYTHONUTF8="1")

    assert done.stdout.splitlines() == [
        "session 000000000000  qa  2026-11-22 (UTC)  2 events",
        "├─ role qa selected",
        "└─ command /qa:check  not ended",
        "",
        "session 5e8446348487  dev  2026-11-22 (UTC)  5 events",
        "├─ role dev selected",
        "└─ command /dev:build  ok  2.05 s",
        "   └─ agent writer  error  ValueError  64 ms",
    ]


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_deep_tree_fits(undecided, columns):
    """No line of a deep tree is wider than the terminal, and a cycle ends."""
    deep = [
        stored(
            n,
            event_type="agent.invoked",
            agent=f"agent-{n}",
            session_id="0" * 12,
            span_id=f"{n:012x}",
            parent_id=f"{n - 1:012x}" if n else f"{59:012x}",
        )
        for n in range(60)
    ]
    fill(undecided, *deep)
    lines = view(undecided, "--tree", COLUMNS=str(columns), PYTHONUTF8="1").stdout.splitlines()

    assert max(map(len, lines)) <= columns
    assert without_spaces("".join(lines)).count("agent-") == 60


def test_a_long_tree_is_bounded(undecided):
    """The tree of a long session is cut, and the remaining events are counted."""
    one = {"session_id": "0" * 12, "role": "dev"}
    pairs = [
        stored(2 * n + at, event_type=f"agent.{suffix}", agent="a", **one, span_id=f"{n:012x}")
        for n in range(300)
        for at, suffix in enumerate(("invoked", "completed"))
    ]
    fill(undecided, stored(999, event_type="role.selected", **one), *pairs)
    lines = view(undecided, "--tree", COLUMNS="80", PYTHONUTF8="1").stdout.splitlines()

    assert len(lines) == 202
    assert lines[0].endswith("601 events")
    assert lines[-1] == "and 202 more events: see view --json"


def test_filters(undecided):
    """Each filter selects events, and several filters apply together."""
    fill(undecided, *(stored(n, **event) for n, event in enumerate(sessions())))
    fill(undecided, stored(7, timestamp="2026-11-20T00:00:00Z", project_id="h:7ac3f0ae7aea"))

    def found(*args):
        return [
            json.loads(line)["seq"] for line in view(undecided, "--json", *args).stdout.splitlines()
        ]

    assert found("--role", "qa") == [6, 5]
    assert found("--event", "agent.failed") == [3]
    assert found("--agent", "writer", "--outcome", "error") == [3]
    assert found("--command", "/dev:build", "-n", "1") == [4]
    assert found("--until", "2026-11-21") == [7]
    assert found("--since", "2026-11-21", "--outcome", "ok") == [4]
    assert found("--project", "h:7ac3f0ae7aea") == [7]
    assert found("--project", str(undecided.root), "--role", "qa") == [6, 5]


def test_a_name_on_events_of_another_type(undecided):
    """A command or an agent is known from events of any type."""
    fill(
        undecided,
        stored(1, event_type="agent.invoked", role="dev", command="/x:only", agent="writer"),
        stored(2, event_type="role.selected", role="dev", agent="chooser"),
    )
    for args in (("--command", "/x:only"), ("--agent", "chooser")):
        matching = view(undecided, *args, "--json")
        later = view(undecided, *args, "--since", "2026-11-23")
        near = view(undecided, args[0], args[1][:-1])

        assert (matching.returncode, len(matching.stdout.splitlines())) == (0, 1)
        assert (later.returncode, later.stdout, later.stderr) == (0, "", "no such events\n")
        assert near.returncode == 2
        assert f"did you mean {args[1]!r}?" in near.stderr


def test_a_name_without_events(undecided):
    """A public or declared name is valid. An unknown one is reported with the known names."""
    (undecided.root / ".flowspec").mkdir()
    (undecided.root / ".flowspec" / "telemetry.toml").write_text('agents = ["planner"]\n')
    fill(undecided, stored(1, event_type="agent.invoked", role="dev", agent="writer"))
    for args in (("--role", "sec"), ("--agent", "planner"), ("--role", "sec", "--json")):
        done = view(undecided, *args)

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "no such events\n")
    wrong = view(undecided, "--agent", "xxxxxxxx")

    assert wrong.returncode == 2
    assert wrong.stderr.endswith("no events of it; there are planner, writer\n")


@pytest.mark.parametrize("how", [(), ("--tree",)], ids=["list", "tree"])
def test_a_name_that_is_stored_as_a_pseudonym(place, how):
    """The user can select such a name in plain text, as with `find`."""
    done = place.run(
        "from telemetry_kit import role_session, track_role_event\n"
        "with role_session('chief of staff', command='/my cmd'):\n"
        "    track_role_event('agent.invoked', agent='secret agent')"
    )
    assert done.returncode == 0, done.stderr
    for option, name in (
        ("--agent", "secret agent"),
        ("--role", "chief of staff"),
        ("--command", "/my cmd"),
    ):
        found = view(place, option, name, *how)

        assert (found.returncode, found.stderr) == (0, "")
        assert "h:" in found.stdout
        assert name not in found.stdout
    later = view(place, "--agent", "secret agent", "--until", "2001-01-01")

    assert (later.returncode, later.stderr) == (0, "no such events\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--role", ""), "write a name"),
        (("--agent", " "), "write a name"),
        (("--command="), "write a name"),
        (("--project", "h:zz"), "a pseudonym is h: and 12 hex digits"),
        (("--project", "no/such/folder"), "there is no such folder"),
        (("--event", "zzz"), "there are agent.completed, agent.failed,"),
    ],
)
def test_invalid_filters(undecided, args, message):
    """An invalid filter is reported in one sentence, and the exit code is 2."""
    fill(undecided, stored(1))
    done = view(undecided, *([args] if isinstance(args, str) else args))

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_wide(undecided):
    """With `--wide`, every field of the event is printed."""
    record = stored(1, **ALL, project_id="h:7ac3f0ae7aea", session_id="5" * 12, key_epoch=3)
    fill(undecided, {name: record[name] for name in catalog.ORDER if name in record})
    text = without_spaces(view(undecided, "--wide", COLUMNS="100").stdout)

    for value in ("event" + f"{1:016x}", "seq1", "projecth:7ac3f0ae7aea", "session555555555555"):
        assert value in text
    assert "key_epoch3" in text


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_follow_a_log_with_a_reused_inode(undecided, count):
    """After a log was cleared, a new one with the same inode is followed from its start."""
    fill(undecided, stored(1), stored(2))
    following = Following(undecided.home, Query())
    with undecided.log.open("r+b") as log:
        log.truncate(0)
        log.writelines(encode(stored(n)) for n in range(10, 10 + count))
    first = [event["seq"] for event in following.news()]
    fill(undecided, stored(99))

    assert first == [*range(10, 10 + count)]
    assert [event["seq"] for event in following.news()] == [99]


def test_follow_a_log_with_deleted_lines(undecided):
    """Lines that were overwritten in place do not count as a new file."""
    fill(undecided, stored(1), stored(2))
    following = Following(undecided.home, Query())
    first = len(encode(stored(1))) - 1
    with undecided.log.open("r+b") as log:
        log.write(b"\n" * first)
    fill(undecided, stored(3))

    assert [event["seq"] for event in following.news()] == [3]


def test_follow(undecided):
    """`--follow` prints the last events, followed by each new one once, also after a rotation."""
    fill(undecided, stored(1), stored(2))
    child = subprocess.Popen(
        [sys.executable, "-m", "telemetry_kit", "view", "--follow", "--json", "-n", "1"],
        cwd=undecided.root,
        env=undecided.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        first = json.loads(child.stdout.readline())["seq"]
        fill(undecided, stored(3))
        second = json.loads(child.stdout.readline())["seq"]
        rotation.seal(undecided.home, "2026-11-22")
        fill(undecided, stored(4), stored(5))
        rest = [json.loads(child.stdout.readline())["seq"] for _ in range(2)]
        child.send_signal(signal.SIGINT)
        code = child.wait(10)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()

    assert (first, second, rest, code) == (2, 3, [4, 5], 0)
