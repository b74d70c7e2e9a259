"""`telemetry-kit selftest` checks that recording has no side effects."""

import json

from telemetry_kit.cli.commands import selftest
from telemetry_kit.verification.selftest_child import Observer


def test_selftest_passes(undecided) -> None:
    """1,000 events use no socket, process, thread or output, and change only the listed files."""
    done = undecided.python("-m", "telemetry_kit", "selftest", "--json")
    report = json.loads(done.stdout)

    assert (0, True, 1_000) == (done.returncode, report["passed"], report["events"])
    assert [0] * 4 == [report[k] for k in ("sockets", "subprocesses", "threads", "output_bytes")]
    assert sorted(p.format(app="flowspec") for p in selftest.EXPECTED) == report["files"]
    assert [] == undecided.tree()


def test_another_app(undecided) -> None:
    """The selftest checks the files of the named app."""
    done = undecided.python("-m", "telemetry_kit", "--app", "acme", "selftest", "--json")

    assert "project/.acme/telemetry.jsonl" in json.loads(done.stdout)["files"]


def test_the_child_counts_side_effects(undecided) -> None:
    """The observer counts a socket, a process and a thread, and lists a written file."""
    code = (
        "from telemetry_kit.verification.selftest_child import Observer;"
        " import socket, subprocess, threading;"
        "w = Observer(); w.start(); socket.socket().close(); subprocess.run(['true']);"
        "t = threading.Thread(target=int); t.start(); t.join(); open('made', 'w').close();"
        "w.on = False; print(*(v > 0 for v in w.counts.values()), *sorted(w.paths))"
    )
    done = undecided.run(code)

    assert "True True True" in done.stdout, done.stderr
    assert "made" in done.stdout
    assert {"sockets": 0, "subprocesses": 0, "threads": 0} == Observer().counts
