"""A new process loads exactly the listed modules. Limits in milliseconds would be unreliable."""

import json

import pytest

DECORATED = """
from telemetry_kit import RoleEvent, configure, tracks

configure(app="flowspec")

@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")
def implement():
    return 42

assert implement() == 42
"""
SESSION = """
from telemetry_kit import RoleEvent, configure, role_session, tracks

configure(app="flowspec")

@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")
def implement():
    return 42

with role_session("dev", command="/flow:implement"):
    assert implement() == 42
"""
MAIN = """
import sys
sys.argv[1:] = {args!r}
from telemetry_kit.cli import main
assert main() == 0
"""
RECORD = MAIN.format(args=["record", "agent.invoked", "--agent", "x", "--role", "dev"])

HOOK = """
import sys
sys.argv[1:] = ["hook", "claude", "SubagentStart"]

class Stdin:
    buffer = __import__("io").BytesIO(b'{"session_id": "s", "agent_id": "a", "agent_type": "x"}')

    def isatty(self):
        return False

sys.stdin = Stdin()
from telemetry_kit.cli import main
assert main() == 0
"""

WITH_CODE = ("telemetry_kit", "telemetry_kit.cli")
# The modules that `configure()` needs, too.
OFF = {
    "",
    "events",
    "paths",
    "_runtime",
    "instrumentation.tracks",
    "settings",
}
WRITING = {
    *(
        "schema.catalog",
        "consent.policy",
        "errors",
        "consent.cache",
        "consent.coding_agents",
        "paths",
        "_runtime",
        "privacy.hmac_sha256",
        "recording.pipeline",
        "privacy.keys",
    ),
    *(
        "files.private",
        "privacy.program",
        "privacy.projects",
        "context",
        "settings",
        "storage.writer",
        "storage.ignore_file",
        "storage.log_file",
        "privacy.declared_names",
    ),
    *("consent.decision", "schema.encoding", "recording.recorder", "schema.validation"),
}
# Without `--app`, the command looks for the app that fits.
COMMAND = {
    *("", "_runtime", "cli", "cli.record", "consent.app_choice", "errors", "paths"),
}
# Without a decision about any app, the hook reads nothing.
HOOK_COMMAND = (COMMAND - {"cli.record"}) | {"cli.hook"}
HOOK_WRITING = {"cli.record", "agents.formats", "agents.hook", "agents.pending"}

EXPENSIVE = {
    *("asyncio", "argparse", "concurrent", "contextlib", "contextvars", "dataclasses", "datetime"),
    *("hashlib", "hmac", "importlib.metadata", "inspect", "json", "logging", "pathlib", "random"),
    *("re", "rich", "secrets", "socket", "ssl", "structlog", "subprocess", "tempfile"),
    *("threading", "tomllib", "typer", "typing", "uuid", "wrapt", "zlib"),
}


def loaded(place, code: str, **env: str) -> tuple[set[str], set[str]]:
    """Return the modules of ours, and the files of others, that `code` loads.

    The modules of a plain program, with or without argparse, are not counted. Neither are extension
    and builtin modules, which take almost no time and differ between builds.
    """

    def modules(source: str) -> dict[str, str]:
        source += (
            "\nimport sys\nfiles = {n: str(getattr(m, '__file__', '')) "
            "for n, m in sys.modules.items()}\nimport json\nprint(json.dumps(files))"
        )
        done = place.python("-c", source, env=env)
        assert (done.stderr, done.returncode) == ("", 0)
        found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return found

    host = "" if "telemetry_kit.cli" in code else "import argparse\n"
    before = modules(host)
    after = {n: f for n, f in modules(host + code).items() if n not in before}
    ours = {n for n in after if n.partition(".")[0] == "telemetry_kit"}
    others = {n for n, f in after.items() if n not in ours and f.endswith((".py", ".pyc"))}
    # The `__init__` of a package has a docstring and no code, as test_architecture checks.
    with_code = {n for n in ours if not after[n].endswith("__init__.py") or n in WITH_CODE}
    return {n.partition(".")[2] for n in with_code}, others


@pytest.fixture
def denied(place):
    """A project with a grant that the user has since denied."""
    from telemetry_kit.consent import changes

    changes.disable_telemetry()
    return place


def test_undecided(undecided) -> None:
    """Without a decision, a program loads six small modules of ours and no other."""
    assert loaded(undecided, DECORATED) == (OFF, set())


def test_undecided_session(undecided) -> None:
    """Without a decision, a session loads one more module."""
    assert (OFF | {"instrumentation.sessions"}, set()) == loaded(undecided, SESSION)


def test_undecided_strings(undecided) -> None:
    """Without a decision, an event given as a string loads the catalog."""
    code = DECORATED.replace("RoleEvent.AGENT_INVOKED", "'agent.invoked'").replace(
        "RoleEvent, ", ""
    )
    modules, others = loaded(undecided, code)

    assert ((OFF - {"events"}) | {"schema.catalog", "errors"}, {"__future__"}) == (modules, others)


def test_vetoed_without_a_grant(undecided) -> None:
    """Without a grant, a veto loads no more modules than no decision at all."""
    assert loaded(undecided, DECORATED, DO_NOT_TRACK="1") == (OFF, set())


def test_denied(denied) -> None:
    """A denial loads as many modules as no decision at all."""
    assert loaded(denied, DECORATED) == (OFF, set())


def test_denied_session(denied) -> None:
    """After a denial a session loads no pipeline, key or writer."""
    modules, _ = loaded(denied, SESSION)

    assert set() == modules & {"recording.pipeline", "storage.writer", "privacy.keys"}


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "FLOWSPEC_TELEMETRY_DISABLED"])
@pytest.mark.parametrize(
    "code", [DECORATED, SESSION], ids=["decorated", "instrumentation.sessions"]
)
def test_vetoed_with_a_grant(place, code: str, variable: str) -> None:
    """If a variable vetoes a grant, no pipeline, key or writer is loaded."""
    modules, _ = loaded(place, code, **{variable: "1"})

    assert set() == modules & {"recording.pipeline", "storage.writer", "privacy.keys"}


def test_on(place) -> None:
    """A session and a decorated call that write three events load exactly these modules."""
    modules, others = loaded(place, SESSION)

    assert OFF | WRITING | {"instrumentation.sessions", "instrumentation.spans"} == modules
    assert {"__future__"} == others
    assert place.types() == ["role.selected", "agent.invoked", "agent.completed"]


def test_record_undecided(undecided) -> None:
    """Without a decision, `record` loads the command line, the runtime and the app choice."""
    assert (COMMAND, {"__future__"}) == loaded(undecided, RECORD)


def test_record_on(place) -> None:
    """While recording is on, `record` loads the pipeline and only `__future__` of the library."""
    modules, others = loaded(place, RECORD)

    assert (COMMAND | WRITING, {"__future__"}) == (modules, others)
    assert place.types() == ["agent.invoked"]


def test_record_denied(denied) -> None:
    """After a denial `record` loads no writer and no key."""
    modules, others = loaded(denied, RECORD)

    assert set() == others & EXPENSIVE
    assert set() == modules & {"storage.writer", "privacy.keys"}


def test_hook_undecided(undecided) -> None:
    """Without a decision, `hook` loads the command line, the runtime and the app choice."""
    assert (HOOK_COMMAND, {"__future__"}) == loaded(undecided, HOOK)


def test_hook_on(place) -> None:
    """While recording is on, `hook` loads the pipeline and only `__future__` of the library."""
    modules, others = loaded(place, HOOK)

    assert (HOOK_COMMAND | WRITING | HOOK_WRITING, {"__future__"}) == (modules, others)
    assert place.types() == ["agent.invoked"]


def test_hook_denied(denied) -> None:
    """After a denial `hook` loads no parser, no writer and no key."""
    modules, others = loaded(denied, HOOK)

    assert set() == others & EXPENSIVE
    assert set() == modules & {"agents.hook", "storage.writer", "privacy.keys"}


HELP = [["--help"], ["--version"], ["record", "--help"], ["hook", "--help"]]


@pytest.mark.parametrize("args", HELP, ids=" ".join)
def test_help(undecided, args: list[str]) -> None:
    """`--help` and `--version` load no parser and no third-party module."""
    modules, others = loaded(undecided, MAIN.format(args=args))

    assert (set(), set()) == (
        modules - {"", "cli", "cli.hook", "cli.record", "cli.registry", "_version"},
        others,
    )


@pytest.mark.parametrize(
    "code",
    [DECORATED, SESSION, RECORD, HOOK],
    ids=["call", "instrumentation.sessions", "record", "hook"],
)
def test_nothing_expensive(place, code: str) -> None:
    """No cold start loads a module that takes milliseconds to import."""
    _, others = loaded(place, code)

    assert set() == others & EXPENSIVE


def test_python_m_is_the_same_command(place) -> None:
    """`python -m telemetry_kit record` writes the event and loads the same modules as `record`.

    `-m` itself loads runpy and what runpy needs, and `__main__` of our package.
    """
    done = place.python(
        *("-X", "importtime", "-m", "telemetry_kit", "record", "agent.invoked", "--agent", "x")
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    ours = {n.partition(".")[2] for n in names if n.partition(".")[0] == "telemetry_kit"}

    assert (done.returncode, done.stdout, place.types()) == (0, "", ["agent.invoked"])
    packages = {n.partition(".")[0] for n in COMMAND | WRITING if "." in n}
    assert ours == COMMAND | WRITING | packages
    assert set() == {n.partition(".")[0] for n in names} & {"typer", "rich", "structlog", "wrapt"}
