"""`telemetry-kit audit` lists the exports and reports damage of the export log."""

import hashlib
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pexpect
import pytest

from telemetry_kit.export import log
from telemetry_kit.files import hash_chain
from telemetry_kit.schema.encoding import encode

COUNT = 4
NOW = 1_795_000_000.0


def run(place, *args, **env):
    """Run a command in the project."""
    return place.python("-m", "telemetry_kit", *args, env=env)


@pytest.fixture
def exported(place):
    """Make a project with four exports."""
    place.log.parent.mkdir(mode=0o700, exist_ok=True)
    event = {
        "schema_version": "1.0",
        "event_id": "0" * 16,
        "event_type": "agent.invoked",
        "timestamp": "2026-11-22T00:00:00Z",
        "agent": "writer",
    }
    place.log.write_bytes(encode(event))
    place.log.chmod(0o600)
    assert run(place, "export", "-o", "out-0").returncode == 0
    first = next(iter(log.ExportLog(place.home)))
    for number in range(1, COUNT):
        log.append(
            place.home,
            NOW + number,
            first["command"],
            first["rows"],
            first["sha256"],
            f"out-{number}",
        )
    return place


def test_an_entry_has_all_fields(exported):
    """An entry lists the time, command, fields, rows, SHA-256 and destination.

    The audit prints it as text and as JSON.
    """
    expected = run(exported, "audit")
    data = json.loads(run(exported, "audit", "--json").stdout)["exports"]
    sha256 = hashlib.sha256((exported.root / "out-0").read_bytes()).hexdigest()
    lines = expected.stdout.split("Exports and reports:\n")[1].splitlines()

    assert (expected.returncode, expected.stderr) == (0, "")
    assert len(lines) == len(data) == COUNT
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  1 event of {len(data[0]['fields'])} fields "
        rf"to out-0, by export --format jsonl \(SHA-256 {sha256[:12]}\)",
        lines[0],
    )
    assert (data[0]["rows"], data[0]["sha256"], data[0]["destination"]) == (1, sha256, "out-0")
    assert {"event_type", "timestamp", "agent"} < set(data[0]["fields"])


def test_a_failed_export_has_no_entry(exported):
    """Only a completed export has an entry."""
    run(exported, "export", "-o", "out-0")
    run(exported, "export", "--format", "nothing")

    assert len(list(log.ExportLog(exported.home))) == COUNT


def as_earlier_version(line, before):
    """Return an entry in the format of earlier versions."""
    entry = {**json.loads(line)["entry"], "previous": sha256(before) if before else ""}
    body = json.dumps(entry)
    return f'{body[:-1]}, "entry_sha256": "{sha256(body.encode())}"}}'.encode()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def earlier_log(exported):
    """Rewrite the export log in the format of earlier versions."""
    path, lines = lines_of(exported)
    created = []
    for line in lines:
        created.append(as_earlier_version(line, created[-1] if created else b""))
    with open(path, "wb") as file:
        file.writelines(line + b"\n" for line in created)
    with open(f"{path}.head", "w") as file:
        json.dump({"entries": COUNT, "uncounted": 0, "sha256": sha256(created[-1])}, file)
    return exported


@pytest.mark.parametrize("counted", [COUNT, COUNT - 1], ids=["counted", "late"])
def test_a_log_of_an_earlier_version(earlier_log, counted):
    """An earlier format is read, and the next export rewrites it with all its entries."""
    path, lines = lines_of(earlier_log)
    with open(f"{path}.head", "w") as file:
        code = sha256(lines[counted - 1].rstrip(b"\n"))
        json.dump({"entries": counted, "uncounted": 0, "sha256": code}, file)
    before = run(earlier_log, "audit", "--json")
    run(earlier_log, "export", "-o", "more")
    after = run(earlier_log, "audit", "--json")
    links = [json.loads(line) for line in lines_of(earlier_log)[1]]
    shown = [json.loads(done.stdout)["exports"] for done in (before, after)]

    assert (before.returncode, before.stderr) == (after.returncode, after.stderr) == (0, "")
    assert lines == [json.dumps(link["entry"]).encode() + b"\n" for link in links[:-1]]
    assert all(list(link) == ["entry", "previous", "sha256"] for link in links)
    assert shown[0] == shown[1][:-1]
    assert [len(entries) for entries in shown] == [COUNT, COUNT + 1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: [lines[0].replace(b"out-0", b"out-9"), *lines[1:]], "entry 1 of the"),
        (lambda lines: [*lines[:2], *lines[3:]], "or one before it is missing; 1 entry of the"),
        (lambda lines: lines[:-1], "1 entry of the export log is missing"),
        (lambda lines: [*lines[:-1], b"x\n"], f"entry {COUNT} of the export log is not as"),
        (lambda lines: lines[1:], "entry 1 of the export log is not as it was written"),
    ],
    ids=["edited", "middle", "last", "no JSON", "first"],
)
def test_damage_in_a_log_of_an_earlier_version(earlier_log, change, expected):
    """Damage of an earlier format is reported before and after the rewrite."""
    path, lines = lines_of(earlier_log)
    with open(path, "wb") as file:
        file.writelines(change(lines))
    before = run(earlier_log, "audit")
    run(earlier_log, "export", "-o", "more")
    after = run(earlier_log, "audit")

    assert (before.returncode, after.returncode) == (1, 1)
    assert expected in before.stderr
    assert expected.partition(";")[0] in after.stderr


def lines_of(place):
    """Return the path and the lines of the export log."""
    path = log.path_of(place.home)
    with open(path, "rb") as file:
        return path, file.read().splitlines(keepends=True)


@pytest.mark.parametrize("number", range(1, COUNT + 1))
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"rows": 1', b'"rows": 0'),
        lambda line: line.replace(b"out-", b"cut-"),
        lambda line: line[: len(line) // 2] + b"\n",
        lambda line: b"\xff\xfe\n",
        lambda line: b"[]\n",
    ],
    ids=["edited", "renamed", "cut", "bytes", "list"],
)
def test_tampering_is_reported(exported, number, change):
    """One sentence names the changed entry, the exit code is 1, and other entries are printed."""
    path, lines = lines_of(exported)
    lines[number - 1] = change(lines[number - 1])
    with open(path, "wb") as file:
        file.write(b"".join(lines))
    done = run(exported, "audit")

    assert done.returncode == 1
    assert f"entry {number} of the export log is not as it was written" in done.stderr
    assert "Exports and reports:" in done.stdout


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: lines[1:], "entry 1 of the export log is not as it was written"),
        (lambda lines: [*lines[:2], *lines[3:]], "or one before it is missing; 1 entry of the"),
        (lambda lines: lines[:-1], "1 entry of the export log is missing"),
        (lambda lines: lines[:1], "3 entries of the export log are missing"),
        (lambda lines: [], f"{COUNT} entries of the export log are missing"),
        (lambda lines: [*lines, lines[-1]], f"entry {COUNT + 1} of the export log is not as"),
        (
            lambda lines: [*lines[:-1], resealed(lines[-1])],
            "the last entry of the export log is not",
        ),
    ],
    ids=["first", "middle", "last", "tail", "all", "twice", "resealed"],
)
def test_missing_entries_are_reported(exported, change, expected):
    """A missing or extra entry anywhere in the log is reported, also after the next export."""
    path, lines = lines_of(exported)
    with open(path, "wb") as file:
        file.write(b"".join(change(lines)))
    first = run(exported, "audit")
    run(exported, "export", "-o", "more")
    second = run(exported, "audit")

    assert (first.returncode, second.returncode) == (1, 1)
    assert expected in first.stderr
    assert "the export log" in second.stderr


def resealed(line):
    """Return the entry with changed content and a matching checksum."""
    link = hash_chain.parse(line.rstrip(b"\n"))
    return hash_chain.render({**link.entry, "rows": 7}, link.previous) + b"\n"


def problems_of(home):
    """Return the problems of the export log."""
    exported = log.ExportLog(home)
    list(exported)
    return exported.problems


def test_a_missing_entry_count(exported):
    """If the entry count is missing, each later audit reports that entries may be missing."""
    os.unlink(log.path_of(exported.home) + ".head")
    now = run(exported, "audit")
    run(exported, "export", "-o", "more")
    then = run(exported, "audit")

    assert (now.returncode, then.returncode) == (1, 1)
    assert "its entry count is missing" in now.stderr
    assert f"the first {COUNT} entries of the export log may be incomplete" in then.stderr


def test_an_entry_that_was_not_counted_yet(exported):
    """If a process is killed between entry and count, the log has no problem."""
    path, lines = lines_of(exported)
    with open(f"{path}.head", "w") as file:
        code = json.loads(lines[-2])["sha256"]
        json.dump({"entries": COUNT - 1, "sha256": code, "uncounted": 0}, file)
    now = run(exported, "audit")
    run(exported, "export", "-o", "more")

    assert (now.returncode, now.stderr) == (0, "")
    assert problems_of(exported.home) == []


def test_before_any_decision(undecided, make_place):
    """A project can export before any decision, and its entries remain after a decision.

    An export creates none of the files of a decision, and an audit lists no other project.
    """
    other = make_place("other")
    other.env["HOME"] = undecided.env["HOME"]
    for place, name in ((undecided, "mine"), (other, "theirs")):
        assert run(place, "export", "-o", name).returncode == 0
    before = json.loads(run(undecided, "audit", "--json").stdout)["exports"]
    created = [path for path in undecided.tree() if "/state/" in path]
    undecided.grant()
    run(undecided, "export", "-o", "later")
    after = json.loads(run(undecided, "audit", "--json").stdout)["exports"]
    expected = run(undecided, "audit")

    assert [entry["destination"] for entry in before] == ["mine"]
    assert not [path for path in created if "place.key" in path or "projects" in path]
    assert str(undecided.root) not in "".join(created)
    assert [entry["destination"] for entry in after] == ["mine", "later"]
    assert (expected.returncode, expected.stderr) == (0, "")


def test_a_long_export_log(exported):
    """A log of any length is read, entries are short, and similar problems are summarised."""
    path, lines = lines_of(exported)
    assert max(map(len, lines)) < 450
    with open(path, "ab") as file:
        file.writelines(b"\n".join([b"x" * 999] * 1_000) for _ in range(40))
    done = run(exported, "audit", "--json")

    assert os.path.getsize(path) > 32 << 20
    assert done.returncode == 1
    assert "so are 39,9" in done.stderr
    assert len(done.stderr) < 2_000
    assert len(json.loads(done.stdout)["exports"]) == COUNT


def test_exports_after_damage_are_logged(exported):
    """A damaged line is reported, and the exports after it have complete entries."""
    path, lines = lines_of(exported)
    with open(path, "wb") as file:
        file.write(b"".join(lines)[:-30])
    run(exported, "export", "-o", "more")
    run(exported, "export", "-o", "again")

    assert problems_of(exported.home) == [
        f"entry {COUNT} of the export log is not as it was written"
    ]
    assert [e["destination"] for e in list(log.ExportLog(exported.home))][-2:] == [
        "more",
        "again",
    ]


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.chmod(path, 0o666),
        lambda path: (os.rename(path, f"{path}.x"), os.symlink(f"{path}.x", path)),
        lambda path: (os.unlink(path), os.mkdir(path)),
        lambda path: (os.unlink(path), os.mkfifo(path)),
    ],
    ids=["open to others", "link", "folder", "pipe"],
)
def test_an_unsafe_export_log(exported, harm):
    """An unsafe export log is reported in one sentence, and the decisions are still printed."""
    harm(log.path_of(exported.home))
    done = run(exported, "audit")
    data = run(exported, "audit", "--json")

    assert (done.returncode, data.returncode) == (1, 1)
    assert "yes  this project, by api" in done.stdout
    assert "the export log cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads(data.stdout)["exports"] == []
    assert json.loads(data.stdout)["this project"][0]["decision"] == "yes"


def test_an_export_that_cannot_be_logged(exported):
    """If the entry cannot be saved, the export is written and the exit code is 1."""
    path = log.path_of(exported.home)
    os.unlink(path)
    os.mkdir(path)
    done = run(exported, "export", "-o", "more")

    assert done.returncode == 1
    assert "exported, but the export log has no entry of it" in done.stderr
    assert (exported.root / "more").exists()


def test_concurrent_exports(exported):
    """Each entry contains the checksum of the one before it, also for concurrent exports."""
    with ThreadPoolExecutor(4) as pool:
        codes = list(
            pool.map(lambda n: run(exported, "export", "-o", f"at-{n}").returncode, range(8))
        )

    assert codes == [0] * 8
    assert len(list(log.ExportLog(exported.home))) == COUNT + 8
    assert problems_of(exported.home) == []


def test_no_decision_and_no_export(undecided):
    """Without a decision or an export, the audit reports it and creates no file."""
    done = run(undecided, "audit")
    data = run(undecided, "audit", "--json")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No decision yet.\n")
    assert json.loads(data.stdout)["exports"] == []
    assert undecided.tree() == []


def test_control_characters_in_an_entry(exported):
    """A control character in an entry is printed escaped."""
    path, lines = lines_of(exported)
    with open(path, "wb") as file:
        file.write(b"".join(lines).replace(b"out-3", b"out-\\u001b[2J"))
    done = run(exported, "audit")

    assert "out-\\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.tty
def test_a_line_fits_the_terminal(exported):
    """A long line is wrapped in a terminal and is one line in a pipe."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "telemetry_kit", "audit"],
        cwd=exported.root,
        env={"TERM": "xterm", **exported.env},
        dimensions=(24, 60),
        timeout=30,
    )
    child.expect(pexpect.EOF)
    lines = child.before.decode("ascii").splitlines()

    assert max(map(len, lines)) < 60
    piped = run(exported, "audit").stdout
    assert piped.split() == " ".join(lines).split()
    assert max(map(len, piped.splitlines())) > 60
