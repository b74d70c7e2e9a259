"""Which modules a fresh process loads: exact lists, where limits in milliseconds would flake."""

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

WITH_CODE = ("telemetry_kit", "telemetry_kit.cli")
# With what `configure()` needs.
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
        "paths",
        "_runtime",
        "privacy.hmac_sha256",
        "recording.pipeline",
        "privacy.keys",
    ),
    *(
        "files.private",
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
# Without `--app` it looks for the app that fits.
COMMAND = {
    *("", "_runtime", "cli", "cli.record", "consent.app_choice", "errors", "paths"),
}

EXPENSIVE = {
    *("asyncio", "argparse", "concurrent", "contextlib", "contextvars", "dataclasses", "datetime"),
    *("hashlib", "hmac", "importlib.metadata", "inspect", "json", "logging", "pathlib", "random"),
    *("re", "rich", "secrets", "socket", "ssl", "structlog", "subprocess", "tempfile"),
    *("threading", "tomllib", "typer", "typing", "uuid", "wrapt", "zlib"),
}


def loaded(place, code: str, **env: str) -> tuple[set[str], set[str]]:
    """Our modules and the files of others that `code` adds: to a program with argparse, or to none.

    Extension modules and builtin ones cost next to nothing and differ between builds.
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
    # The file of a package holds a sentence and no code; test_architecture sees to that.
    with_code = {n for n in ours if not after[n].endswith("__init__.py") or n in WITH_CODE}
    return {n.partition(".")[2] for n in with_code}, others


@pytest.fixture
def denied(place):
    """A project whose user granted consent once and has denied it since."""
    from telemetry_kit.consent import changes

    changes.disable_telemetry()
    return place


def test_undecided(undecided) -> None:
    """Without a decision a program loads six small files of ours, and none of others."""
    assert loaded(undecided, DECORATED) == (OFF, set())


def test_undecided_session(undecided) -> None:
    """A session adds its own file and nothing else."""
    assert (OFF | {"instrumentation.sessions"}, set()) == loaded(undecided, SESSION)


def test_undecided_strings(undecided) -> None:
    """A string is looked up in the catalog."""
    code = DECORATED.replace("RoleEvent.AGENT_INVOKED", "'agent.invoked'").replace(
        "RoleEvent, ", ""
    )
    modules, others = loaded(undecided, code)

    assert ((OFF - {"events"}) | {"schema.catalog", "errors"}, {"__future__"}) == (modules, others)


def test_vetoed_without_a_grant(undecided) -> None:
    """A veto without a grant costs no more than the missing grant alone."""
    assert loaded(undecided, DECORATED, DO_NOT_TRACK="1") == (OFF, set())


def test_denied(denied) -> None:
    """A denial costs as much as a question that was never asked."""
    assert loaded(denied, DECORATED) == (OFF, set())


def test_denied_session(denied) -> None:
    """A session loads no pipeline, key or writer after a denial."""
    modules, _ = loaded(denied, SESSION)

    assert set() == modules & {"recording.pipeline", "storage.writer", "privacy.keys"}


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "FLOWSPEC_TELEMETRY_DISABLED"])
@pytest.mark.parametrize(
    "code", [DECORATED, SESSION], ids=["decorated", "instrumentation.sessions"]
)
def test_vetoed_with_a_grant(place, code: str, variable: str) -> None:
    """A veto over a grant loads no pipeline, key or writer."""
    modules, _ = loaded(place, code, **{variable: "1"})

    assert set() == modules & {"recording.pipeline", "storage.writer", "privacy.keys"}


def test_on(place) -> None:
    """A session and a decorated call with three events on disk load exactly these modules."""
    modules, others = loaded(place, SESSION)

    assert OFF | WRITING | {"instrumentation.sessions", "instrumentation.spans"} == modules
    assert {"__future__"} == others
    assert place.types() == ["role.selected", "agent.invoked", "agent.completed"]


def test_record_undecided(undecided) -> None:
    """`record` without a decision loads the command line, the runtime and the choice of the app."""
    assert (COMMAND, {"__future__"}) == loaded(undecided, RECORD)


def test_record_on(place) -> None:
    """`record` loads the pipeline, and of the standard library nothing but `__future__`."""
    modules, others = loaded(place, RECORD)

    assert (COMMAND | WRITING, {"__future__"}) == (modules, others)
    assert place.types() == ["agent.invoked"]


def test_record_denied(denied) -> None:
    """`record` loads no writer and no key after a denial."""
    modules, others = loaded(denied, RECORD)

    assert set() == others & EXPENSIVE
    assert set() == modules & {"storage.writer", "privacy.keys"}


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["record", "--help"]], ids=" ".join)
def test_help(undecided, args: list[str]) -> None:
    """Help and version load no parser, no terminal, nothing of others."""
    modules, others = loaded(undecided, MAIN.format(args=args))

    assert (set(), set()) == (
        modules - {"", "cli", "cli.record", "cli.registry", "_version"},
        others,
    )


@pytest.mark.parametrize(
    "code", [DECORATED, SESSION, RECORD], ids=["call", "instrumentation.sessions", "record"]
)
def test_nothing_expensive(place, code: str) -> None:
    """Nothing that costs milliseconds is on any cold path, async and threads included."""
    _, others = loaded(place, code)

    assert set() == others & EXPENSIVE


def test_python_m_is_the_same_command(place) -> None:
    """`python -m telemetry_kit record` writes the event and loads what `record` loads.

    `-m` itself brings runpy and what that needs; of ours it adds only `__main__`.
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
