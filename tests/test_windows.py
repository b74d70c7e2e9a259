"""On Windows every name works, nothing is recorded, and commands report no support."""

import pytest

# Remove what Python on Windows lacks, before any module of ours is loaded. The third-party modules
# are loaded already, because some of them look for parts of a real Windows.
WINDOWS = """
import os, sys
import argparse, asyncio, click, shutil, structlog, subprocess, tempfile, typer, wrapt
for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "geteuid", "getuid", "fchmod",
             "fork", "register_at_fork", "statvfs", "chown", "getpgrp", "tcgetpgrp"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("fcntl", "termios", "pwd", "grp", "resource"):
    sys.modules[name] = None
sys.platform = "win32"
"""
CALLS = """
import telemetry_kit, telemetry_kit.insights
from telemetry_kit import *
from telemetry_kit.consent import prompt as asking
assert configure(app="flowspec", commands=["build"])
for name in telemetry_kit.__all__:
    getattr(telemetry_kit, name)

@tracks(RoleEvent.AGENT_INVOKED, agent="x")
def plain():
    return 42

@tracks("agent.invoked")
async def later():
    return 43

@role_session("dev", workflow="w")
def steps():
    yield 44

import asyncio, functools
def use():
    assert plain() == 42
    assert asyncio.run(later()) == 43
    assert list(steps()) == [44]
    assert tracks("agent.invoked")(functools.partial(plain))() == 42
    with role_session("dev", command="build") as session, tracks("command.executed") as call:
        call.set(exit_code=1)
        track_role_event("handoff.clicked", agent="x", project_root=".")
        get_logger().info("agent.invoked", agent="x")
        propagate(plain)()
        current()
        child_environment()
    handle = instrument("string:capwords", tracks("agent.invoked"))
    import string
    assert string.capwords("a") == "A"
    handle.undo()
use()
assert track_role_event("role.selected") is None
assert get_logger().info("role.selected") is None
assert is_telemetry_enabled() is False and is_telemetry_enabled(".") is False
assert len(hash_pii("a", field="agent")) == 12
assert child_environment() == {}
assert list(read_events()) == []
assert telemetry_kit.insights.stats().events == 0
assert ask_consent() is False and ask_consent(".", quiet=True) is False
assert enable_telemetry() is False and enable_telemetry(all_projects=True) is False
assert disable_telemetry() is None
assert plain() == 42
with capture_events() as captured:
    use()
    hash_pii("a", field="agent")
types = {event["event_type"] for event in captured.events}
assert {"agent.invoked", "role.selected", "command.failed"} <= types
"""
BRIDGES = """
import argparse
import telemetry_kit
from telemetry_kit.integrations import flag
from telemetry_kit.integrations.argparse import add_telemetry_argument
from telemetry_kit.integrations.click import telemetry_option
from telemetry_kit.integrations.typer import TelemetryOption
from telemetry_kit.cli import typer_app
telemetry_kit.configure(app="flowspec")
typer_app("flowspec")
from telemetry_kit.integrations.argparse import install
parser = argparse.ArgumentParser()
parser.set_defaults(func=print)
install(parser, name="flowspec")
parser.parse_args([]).func(end="")
add_telemetry_argument(parser)
assert parser.parse_args(["--no-telemetry"]).telemetry is False
"""
TEST = """
from telemetry_kit import tracks

def test_it(telemetry_events):
    tracks("agent.invoked")(lambda: None)()
    telemetry_events.assert_sequence("agent.invoked", "agent.completed")
"""
MAIN = """
sys.argv = ["telemetry-kit", *{args!r}]
from telemetry_kit.cli import main
sys.exit(main())
"""
SENTENCE = "telemetry-kit: Windows is not supported yet: nothing is recorded there.\n"


@pytest.mark.parametrize("code", [CALLS, BRIDGES], ids=["calls", "bridges"])
def test_a_host_on_windows(place, code: str) -> None:
    """A host program can import, decorate and call. It prints and creates nothing."""
    before = place.tree()
    done = place.run(WINDOWS + code, named=False)

    assert ("", "", 0) == (done.stderr, done.stdout, done.returncode)
    assert before == place.tree()


def test_the_fixture_on_windows(place) -> None:
    """The fixture `telemetry_events` captures events in memory."""
    (place.root / "test_it.py").write_text(TEST)
    # pytest needs the modules of this system.
    code = f"import sys, pytest\nhere = sys.platform\n{WINDOWS}import telemetry_kit._runtime\n"
    words = (
        "'-q', '-p', 'no:cacheprovider', '-p', 'telemetry_kit.integrations.pytest', 'test_it.py'"
    )
    done = place.python(
        *("-c", f"{code}sys.platform = here\nsys.exit(pytest.main([{words}]))"),
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "args",
    [
        *(
            ["status"],
            ["enable", "--yes"],
            ["on"],
            ["off"],
            ["view"],
            ["stats", "--json"],
            ["doctor"],
        ),
        *(["verify"], ["reset", "--yes"], ["no-such-command"], ["--app", "acme", "clear", "--yes"]),
    ],
    ids=" ".join,
)
def test_commands_on_windows(place, args: list[str]) -> None:
    """Every command reports in one sentence that Windows is not supported, and exits with 1."""
    before = place.tree()
    done = place.run(WINDOWS + MAIN.format(args=args), named=False)

    assert (1, "", SENTENCE) == (done.returncode, done.stdout, done.stderr)
    assert before == place.tree()


def test_record_on_windows(place) -> None:
    """`record` is used in scripts, so it exits with 0 and prints nothing."""
    done = place.run(
        WINDOWS + MAIN.format(args=["record", "agent.invoked", "--agent", "x"]), named=False
    )

    assert (0, "", "", []) == (done.returncode, done.stdout, done.stderr, place.events())


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_help_on_windows(place, word: str) -> None:
    """`--help` and `--version` work on Windows."""
    done = place.run(WINDOWS + MAIN.format(args=[word]), named=False)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("args", [["status"], ["export", "--format", "csv"], ["on"]], ids=" ".join)
def test_mounted_commands_on_windows(place, args: list[str]) -> None:
    """A host can mount the commands, and they report the same."""
    # Typer needs the modules of this system.
    code = f"import sys\nhere = sys.platform\n{WINDOWS}from telemetry_kit.cli import typer_app\n"
    done = place.run(
        f"{code}mounted = typer_app()\nsys.platform = here\nmounted({args!r})", named=False
    )

    assert (1, "", SENTENCE) == (done.returncode, done.stdout, done.stderr)
