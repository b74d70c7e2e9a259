"""The core of an import stores events from elsewhere once, by the rules of the recorder."""

import json
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from telemetry_kit import configure, disable_telemetry, enable_telemetry, track_role_event
from telemetry_kit.cli import count_cache, main
from telemetry_kit.consent import changes
from telemetry_kit.errors import JournalError, Off
from telemetry_kit.insights.cache import NAME, count_log
from telemetry_kit.recording.importer import Importer
from telemetry_kit.schema import catalog
from telemetry_kit.storage import maintenance, reader
from tests.conftest import NOW
from tests.recording.importer_helpers import day, entry, imported, own, take

# -- what an event may contain -----------------------------------------------------------------


def test_an_event_of_another_program(place) -> None:
    """An ID of any form becomes a pseudonym, and the entry identifies the event."""
    place.configure(agents=["planner"])
    found = Importer()
    session = "8a5c1e7e-5a0b-4a3e-9f5e-0d8f5f9f5a11"
    event = {
        "event_type": "agent.completed",
        "timestamp": f"{day(3)}T11:22:33Z",
        "agent": "planner",
        "session_id": session,
        "span_id": "call-7",
        "outcome": "ok",
        "duration_ms": 1234.5,
        "invoker": "claude-code",
        "role": None,
    }
    found.add(event, "claude\0line 1")
    found.add({**event, "agent": "x"}, "claude\0line 1")
    found.add({**event, "parent_id": "call-7", "invoker": "me"}, "claude\0line 2")
    found.write()
    first, second = imported(place)

    assert (3, 2, {"repeated": 1}) == (found.read, len(found), found.left_out)
    assert place.key.outside_id("session_id", session) == first["session_id"]
    assert first["session_id"] == second["session_id"]
    assert first["span_id"] == second["span_id"] == second["parent_id"]
    assert ("import", "claude-code", 1300) == (
        *(first["source"], first["invoker"], first["duration_ms"]),
    )
    assert f"{day(3)}T00:00:00Z" == first["timestamp"]
    assert {"role", "parent_id"}.isdisjoint(first)
    assert "invoker" not in second


@pytest.mark.parametrize("epoch", [1, 2])
def test_no_pseudonym_is_taken_over(place, epoch) -> None:
    """A file cannot prove which key made a pseudonym, even if it names this project and key."""
    place.configure(context={"ticket": "identifier"}, roles=["planner"])
    forged = {
        "agent": place.key.pseudonym("agent", "secret"),
        "role": "h:0123456789ab",
        "context": {"ticket": "h:0123456789ab"},
    }
    ids = {"session_id": "0123456789ab", "span_id": "0123456789ac", "parent_id": "0123456789ad"}
    take(own(place, 1, key_epoch=epoch, **forged, **ids), own(place, 2, role="planner"))
    event, plain = imported(place)
    key = place.key

    assert "planner" == plain["role"]
    assert key.pseudonym("role", "h:0123456789ab") == event["role"]
    assert key.pseudonym("agent", forged["agent"]) == event["agent"]
    assert {"ticket": key.pseudonym("context.ticket", "h:0123456789ab")} == event["context"]
    assert set(ids.values()).isdisjoint(event[field] for field in ids)
    assert (key.epoch, key.project_id(place.home)) == (event["key_epoch"], event["project_id"])


def test_the_fields_of_a_forged_export(place, capsys) -> None:
    """What is not declared here does not get into the log, and `verify` passes."""
    place.configure(version="1.2", errors=["AcmeError"], context={"items": "measure"})
    lengthy = "n" * catalog.MAX_NAME_CHARS
    take(
        own(place, 1, app_version="1.2", error_type="AcmeError", dropped=2**53),
        own(place, 2, app_version="9.8.7.6", error_type="Jane Doe", project_id="h:" + "a" * 12),
        own(place, 3, role="H:0123456789ab", command="\ud800\0", agent=lengthy, exit_code=5),
        own(place, 4, context={"items": 123456, "note": "call Jane"}, duration_ms=987654321),
    )
    first, second, third, fourth = imported(place)
    stored = b"".join(p.read_bytes() for p in place.log.parent.glob("telemetry*"))
    main(["verify"])

    assert ("1.2", "AcmeError", 2**53 - 64) == (
        *(first["app_version"], first["error_type"], first["dropped"]),
    )
    assert ("other", 1) == (second["error_type"], second["dropped"])
    assert "app_version" not in second
    assert {"h:"} == {third[field][:2] for field in ("role", "command", "agent")}
    assert "exit_code" not in third
    assert ({"items": 123000}, 990_000_000) == (fourth["context"], fourth["duration_ms"])
    assert not any(text in stored for text in (b"Jane", b"9.8.7.6", lengthy.encode()))
    assert "PASSED" in capsys.readouterr().out


def test_a_version_of_an_earlier_release(place) -> None:
    """A version that the program declared here before stays, and in a trial, too."""
    for version in ("1.1", "1.2"):
        place.configure(version=version)
        track_role_event("role.selected", role="dev")
    trial = Importer(is_trial=True)
    trial.add(own(place, 1, app_version="1.1"))
    take(own(place, 1, app_version="1.1"), own(place, 2, app_version="1.3"))

    assert ["1.1", None] == [event.get("app_version") for event in imported(place)]
    assert 0 == trial.dropped_values


def test_names_of_one_key_stay_findable(place, capsys) -> None:
    """`find` and the filters find a name in an own export that was imported again."""
    track_role_event("agent.invoked", agent="secret")
    (event,) = place.events()
    assert {"stored": 1} == take(event).left_out
    place.log.unlink()
    take(event)
    main(["find", "secret"])
    main(["view", "--agent", "secret", "--json"])
    printed = capsys.readouterr().out

    assert "1 event" in printed
    assert imported(place)[0]["event_id"] in printed


# -- which events are taken --------------------------------------------------------------------


def test_retention_and_future(place) -> None:
    """Events older than the retention, and those of a later day, are left out."""
    place.configure(retention_days=30)
    found = take(*(entry(back) for back in (31, 30, 0, -1)))

    assert {"too_old": 1, "in_future": 1} == found.left_out
    assert [day(30), day(0)] == found.days
    assert [day(30), day(0)] == [event["timestamp"][:10] for event in imported(place)]


def test_the_configured_resolution(place) -> None:
    """A time is cut to the resolution that the user consented to."""
    place.configure(timestamp_resolution="hour")
    take({"event_type": "role.selected", "timestamp": f"{day(1)}T11:22:33.5Z"})

    assert [f"{day(1)}T11:00:00Z"] == [event["timestamp"] for event in imported(place)]


def test_what_the_accepted_notice_does_not_name(place, monkeypatch) -> None:
    """An event that the notice did not name is left out, and so is a field of another event."""
    monkeypatch.setattr(catalog, "NOTICE_VERSION", 2)
    monkeypatch.setattr(catalog.EVENTS["agent.invoked"], "since", 2)
    monkeypatch.setattr(catalog.FIELDS["agent"], "since", 2)
    found = take(entry(2, agent="x", role="dev"), entry(1, event_type="agent.invoked"))
    (event,) = imported(place)

    assert {"not_covered": 1} == found.left_out
    assert ("role.selected", "dev") == (event["event_type"], event["role"])
    assert "agent" not in event


def test_without_consent(undecided) -> None:
    """Nothing is read and nothing is created, also in a trial."""
    for is_trial in (False, True):
        with pytest.raises(Off):
            Importer(is_trial=is_trial)

    assert [] == undecided.tree()


@pytest.mark.parametrize("end", ["off", "cleared"])
def test_consent_and_key_are_checked_at_the_end(place, end) -> None:
    """If recording is turned off, or the key replaced, nothing more is stored."""
    found = Importer()
    found.add(entry(1))
    if end == "off":
        disable_telemetry()
    else:
        assert [] == changes.clear(place.home)
    with pytest.raises(JournalError, match="another command has changed consent or the key"):
        found.write()

    assert [] == imported(place)


def test_a_log_that_cannot_be_read_completely(place) -> None:
    """An event could be stored twice, so nothing is stored."""
    found = Importer()
    found.add(entry(1))
    (place.log.parent / f"telemetry-{day(2)}.jsonl.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(JournalError, match=r"telemetry-.*\.gz in .* could not be read to the end"):
        found.write()

    assert [] == imported(place)


def test_events_in_the_log_without_ids(place) -> None:
    """Lines of the original program in the log count once, though a copy of them is imported."""
    track_role_event("role.selected", role="dev")
    line = f'{{"event_type":"role.selected","timestamp":"{day(4)}T01:02:03","role":"dev"}}\n'
    with place.log.open("a") as log:
        log.write(line)
    copy = [event for event in reader.read(place.home) if "event_id" not in event]
    found = take(*copy, entry(4, role="qa"))

    assert (1, {"stored": 1}) == (len(copy), found.left_out)
    assert ["qa"] == [event["role"] for event in imported(place)]


def test_the_same_events_in_another_project(place, other) -> None:
    """An event has one ID in each project, and another one in the next."""
    ids = []
    for root in (place.root, other):
        found = Importer(str(root))
        found.add(entry(1))
        found.write()
        (event,) = (e for e in reader.read(found.paths) if e["source"] == "import")
        ids.append(event["event_id"])

    assert 2 == len({*ids})


@pytest.mark.parametrize("scope", ["project", "user"])
def test_the_first_events_of_a_project(undecided, monkeypatch, scope) -> None:
    """Under a grant for all projects, an import creates log and key; a trial creates nothing."""
    with configure(app="flowspec", scope=scope):
        enable_telemetry(all_projects=True)
        before = undecided.tree()
        trial = Importer(is_trial=True)
        trial.add(entry(1, role="x"))
        trial.leave_out_stored()
        after = undecided.tree()
        take(entry(1, role="x"))
        (undecided.root / "deeper").mkdir()
        monkeypatch.chdir(undecided.root / "deeper")
        again = take(entry(1, role="x"))
        (event,) = imported(undecided)

    assert before == after
    assert (1, 1, {"stored": 1}) == (len(trial), trial.undeclared_names, again.left_out)
    assert ("project_id" in event) is (scope == "project")


# -- on disk -----------------------------------------------------------------------------------


def test_each_day_is_a_sealed_segment(place, monkeypatch) -> None:
    """Segments are read-only and named by day; a large day has several; the log is unchanged."""
    track_role_event("role.selected", role="dev")
    before = place.log.read_bytes()
    monkeypatch.setattr(maintenance, "SEGMENT_LINES", 2)
    take(*(entry(back, role=f"r{n}") for n in range(3) for back in (2, 5)))
    made = {p.name: p for p in place.log.parent.glob("telemetry-*")}
    names = [f"telemetry-{day(back)}{number}.jsonl" for back in (5, 2) for number in ("", "-2")]

    assert before == place.log.read_bytes()
    assert {*names} == {*made}
    assert {0o400} == {stat.S_IMODE(path.stat().st_mode) for path in made.values()}
    assert [2, 1, 2, 1] == [made[name].read_bytes().count(b"\n") for name in names]
    days = [event["timestamp"][:10] for event in reader.read(place.home)]
    assert [day(5)] * 3 + [day(2)] * 3 == days[:-1]


def test_counts_after_an_import(place) -> None:
    """The count cache of the time before does not hide the imported events."""
    for _ in range(1_000):
        track_role_event("role.selected", role="dev")
    for back in (3, 2):
        assert count_cache.keep(place.home, count_log(place.home))
        take(*(entry(back, role="qa", command=f"c{n}") for n in range(10)))
        main(["status"])  # compress what was imported
        warm = count_log(place.home)
        (place.log.parent / NAME).rename(place.root / "cache")
        cold = count_log(place.home)
        (place.root / "cache").rename(place.log.parent / NAME)

        assert cold.counters.dumped() == warm.counters.dumped()
        assert 1_000 + 10 * (4 - back) == warm.counters.total("events")


# The real clock is later than that of the other tests, so the events are given with their days.
IMPORT = """
import json, os, signal, sys
from telemetry_kit.consent import cache
from telemetry_kit.files import atomic
from telemetry_kit.recording.importer import Importer
from telemetry_kit.storage import rotation
events, now, step, when, late = json.loads(sys.argv[1])
if step:
    owner, name = (eval(step.rpartition(".")[0]), step.rpartition(".")[2])
    real, calls = getattr(owner, name), iter(range(1, 1000))

    def killed(*args, **options):
        is_now = next(calls) == when
        if not is_now or late:
            found = real(*args, **options)
        if is_now:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

with cache.override_runtime(now=lambda: now):
    found = Importer()
    for event in events:
        found.add(event)
    if step:
        setattr(owner, name, killed)
    sys.stdin.readline()
    found.write()
print(len(found))
"""
STEPS = [
    ("rotation.take_lock", 1, True),
    ("os.open", 1, True),
    ("os.write", 2, False),
    ("os.write", 2, True),
    ("rotation.protect", 2, True),
    ("os.fsync", 3, True),
    ("os.link", 1, False),
    ("os.link", 2, True),
    ("os.unlink", 3, False),
    ("os.unlink", 3, True),
]


@pytest.mark.parametrize(("step", "when", "late"), STEPS)
def test_a_killed_import(place, step, when, late) -> None:
    """Each day is complete or absent, nothing is lost, and the next import stores the rest."""
    track_role_event("role.selected", role="dev")
    before = place.log.read_bytes()
    events = [entry(back, role=f"r{n}") for back in (4, 3, 2) for n in range(3)]
    done = run_import(place, events, step, when, late)
    survived = [event["event_id"] for event in imported(place)]
    again = take(*events)
    main(["status"])  # the next command deletes what the killed process left
    stored = [event["event_id"] for event in imported(place)]
    files = os.listdir(place.log.parent)

    assert -signal.SIGKILL == done.returncode, done.stderr
    assert before == place.log.read_bytes()
    assert len(survived) in (0, 3, 6, 9)
    assert len(survived) == again.left_out["stored"]
    assert 9 == len(stored) == len({*stored})
    assert {*survived} <= {*stored}
    assert [] == [name for name in files if name.endswith(".tmp")]
    assert 3 == sum(name.startswith("telemetry-2") for name in files)


def run_import(place, events, step="", when=0, late=False, **options):
    """Run an import in a process of its own, which may be killed at a step."""
    given = json.dumps([events, NOW, step, when, late])
    return place.run(IMPORT, given, stdin=subprocess.DEVNULL, **options)


def test_two_imports_at_once(place) -> None:
    """Both processes have read the file before one of them stores the events."""
    events = [entry(back, role=f"r{n}") for back in (3, 2) for n in range(50)]
    given = json.dumps([events, NOW, "", 0, False])
    both = [place.start(IMPORT, given) for _ in range(2)]
    outputs = [child.communicate("go\n") for child in both]

    assert [("0\n", ""), ("100\n", "")] == sorted(outputs)
    assert 100 == len(imported(place))


def test_a_disk_with_too_little_space(place) -> None:
    """The days before are stored, the message says how many events, and the rest can follow."""
    events = [entry(3), *(entry(2, role=f"r{n}") for n in range(100))]

    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = run_import(place, events, preexec_fn=limit_file_size, env=env)
    first = len(imported(place))
    found = take(*events)

    assert "cannot be written to (EFBIG) after 1 event" in done.stderr
    assert (1, 1, 100) == (first, found.left_out["stored"], len(found))
    assert [] == list(Path(place.log.parent).glob("*.tmp"))
