"""While recording is off, no entry point creates a file or loads a recording module."""

import json
import os
from pathlib import Path

import pytest

import telemetry_kit
from telemetry_kit import disable_telemetry, enable_telemetry
from telemetry_kit.cli.registry import COMMANDS
from telemetry_kit.consent import cache, policy

RECORDING = (
    "recording.pipeline",
    "recording.recorder",
    "privacy.keys",
    "storage",
    "storage.writer",
    "privacy.declared_names",
)

# -- the public API: what a program can call ----

LIGHT = {
    "RoleEvent": "from telemetry_kit import RoleEvent; RoleEvent.ROLE_SELECTED",
    "configure": "from telemetry_kit import configure; configure(roles=['scribe'])",
    "tracks": """
from telemetry_kit import tracks
@tracks("agent.invoked", agent="x")
def plain(): return 1
assert plain() == 1
@tracks("agent.invoked", agent="x")
def made(): yield 1
assert list(made()) == [1]
@tracks("workflow.started", workflow="x")
async def waited(): return 1
def run(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
assert run(waited()) == 1
with tracks("agent.invoked", agent="x"):
    pass
""",
    "role_session": """
from telemetry_kit import role_session
with role_session("dev", command="/x", workflow="y"):
    with role_session("pm"):
        pass
@role_session("dev")
def acting(): return 1
assert acting() == 1
""",
    "current": """
from telemetry_kit import current
assert not current()
assert current().set(exit_code=1) is None
""",
    "propagate": "from telemetry_kit import propagate; assert propagate(int)() == 0",
    "is_telemetry_enabled": """
from telemetry_kit import is_telemetry_enabled
assert not is_telemetry_enabled()
""",
    "track_role_event": """
from telemetry_kit import track_role_event
assert track_role_event("role.selected", role="dev") is None
""",
    "hash_pii": "from telemetry_kit import hash_pii; assert len(hash_pii('a', field='role')) == 12",
    "child_environment": """
from telemetry_kit import child_environment
assert child_environment() == {}
""",
    "get_logger": """
from telemetry_kit import get_logger
get_logger().bind(role="dev").info("role.selected")
""",
    "instrument": """
import json
from telemetry_kit import instrument, tracks
instrument("json:dumps", tracks("agent.invoked", agent="x"))
assert json.dumps(1) == "1"
""",
    "ask_consent": "from telemetry_kit import ask_consent; assert not ask_consent()",
}
# For tests: it runs the pipeline in memory.
IN_MEMORY = {
    "capture_events": """
from telemetry_kit import capture_events, role_session
with capture_events() as captured:
    with role_session("dev"):
        pass
assert len(captured.events) == 1
""",
    # It records nothing, and needs the modules that read.
    "read_events": """
from telemetry_kit import configure, read_events
configure(app="flowspec")
assert list(read_events(since="7d", role="dev", event="role.selected")) == []
""",
}
# The user's own decision, which is written to disk even under a veto.
DECIDING = {"enable_telemetry", "disable_telemetry", "__version__"}

# -- the command line ---------------------------------------------------------------------------

ARGUMENTS = {
    "clear": ["--yes"],
    "reset": ["--yes"],
    "record": ["agent.invoked", "--agent", "x", "--role", "dev"],
    "find": ["x"],
    "forget": ["x", "--yes"],
    "hook": ["claude", "SubagentStart"],
    "hooks": ["status"],
    "import": ["no-such-log.jsonl", "--yes"],
    "rotate-key": ["--yes"],
}
# `demo` and `selftest` use their own project in a temporary folder. `export` adds to the export
# log. The other four are the user's own decision.
OWN = {"demo", "selftest", "export", "enable", "on", "disable", "off"}
LIGHT_COMMANDS = {"record", "hook"}
COMMAND_NAMES = [name for names, _, _ in COMMANDS for name in names if name not in OWN]


# The payload that `hook` reads.
STDIN = """\
import io, sys
sys.stdin = io.TextIOWrapper(io.BytesIO(b'{"agent_id": "a", "agent_type": "x"}'))
"""


def command(name: str) -> str:
    words = [name, *ARGUMENTS.get(name, [])]
    return f"{STDIN}from telemetry_kit.cli import main\nassert main({words!r}) in (0, 1, 2)\n"


# -- the vetoes ---------------------------------------------------------------------------------

VARIABLES = (
    *("DO_NOT_TRACK", "FLOWSPEC_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED", "CI"),
    *("GITHUB_ACTIONS", "PYTEST_VERSION"),
)
FILES = ("repository", "pyproject", "user's file")
RECORDS = {
    "no": b"v1 no 2026-01-01\n",
    "corrupt": b"v1 yes",
    "later": b"v2 yes 2026-01-01\n",
    "expired": b"v1 yes 2024-01-01 notice=1 scope=0123456789abcdef expires=2025-01-01\n",
}
VETOES = (
    *("undecided", "no for all projects", "writable by others", "no home", "system"),
    *VARIABLES,
    *FILES,
    *RECORDS,
)


@pytest.fixture
def vetoed(undecided, request):
    """A project under one veto, with the environment and the first lines of its programs."""
    veto, env, before = request.param, {}, ""
    with cache.override_runtime(undecided.environ):
        if veto not in ("undecided", "no for all projects"):
            enable_telemetry()
        elif veto == "no for all projects":
            disable_telemetry(all_projects=True)
    if veto in VARIABLES:
        env = {veto: "1"}
    elif veto == "no home":
        env = {"HOME": ""}
    elif veto == "writable by others":
        undecided.record.chmod(0o666)
    elif veto == "system":
        path = undecided.user.parent / "telemetry.conf"
        path.write_text("enabled = false\n")
        before = (
            "from telemetry_kit.paths import ProjectPaths\n"
            f"ProjectPaths.system_file = {str(path)!r}\n"
        )
    elif veto in RECORDS:
        undecided.record.write_bytes(RECORDS[veto])
    elif veto in FILES:
        path = {
            "repository": undecided.root / ".flowspec/telemetry.toml",
            "pyproject": undecided.root / "pyproject.toml",
            "user's file": Path(undecided.home.user_file),
        }[veto]
        path.parent.mkdir(exist_ok=True)
        path.write_text("[tool.telemetry_kit]\n" * (veto == "pyproject") + "enabled = false\n")
    # Delete the key of the grant, so that a new key is noticed.
    for key in Path(undecided.home.state).glob("projects/*/*"):
        key.unlink()
    return undecided, env, before


PROBE = """
import json, os, sys
{before}
found = {{}}
sources = json.loads(sys.argv[1])
out, sys.stdout, sys.stderr = sys.stdout, open(os.devnull, "w"), open(os.devnull, "w")
for name, source in sources.items():
    try:
        exec(compile(source, name, "exec"), {{}})
        error = ""
    except BaseException as caught:
        error = repr(caught)
    loaded = [m for m in {recording!r} if "telemetry_kit." + m in sys.modules]
    found[name] = [error, loaded]
out.write(json.dumps(found))
"""


def content(place) -> dict[str, bytes]:
    """Return every path in the project and the home directory, with its content.

    Omit the maintenance lock, which commands leave in an existing folder.
    """
    tops = (place.root, place.user)
    paths = [path for top in tops for path in top.rglob("*")]
    paths = [path for path in paths if path.name != ".telemetry.lock"]
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in paths}


def probe(vetoed, sources: dict[str, str]) -> dict[str, list]:
    """Run all sources in one process, and return their errors and the recording modules loaded."""
    place, env, before = vetoed
    code = PROBE.format(before=before, recording=RECORDING)
    done = place.python("-c", code, json.dumps(sources), env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


everywhere = pytest.mark.parametrize("vetoed", VETOES, indirect=True)


def test_every_entry_point_is_tested() -> None:
    """Every public name is in one of the three tables."""
    assert {*LIGHT, *IN_MEMORY, *DECIDING} == set(telemetry_kit.__all__)


@everywhere
@pytest.mark.parametrize("group", ["_api", "recording.logger", "others"])
def test_entry_points(vetoed, group: str) -> None:
    """A call of the public API loads no pipeline and creates no file, folder or key."""
    place, _, _ = vetoed
    before = content(place)
    sources = {name: source for name, source in LIGHT.items() if module_group(name) == group}
    found = probe(vetoed, sources)

    assert found == {name: ["", []] for name in sources}
    assert content(place) == before


def module_group(name: str) -> str:
    """Return the group of a module. A loaded module would hide a later one, so some are alone."""
    if name == "get_logger":
        return "recording.logger"
    return "_api" if telemetry_kit._MODULES[name] == "_api" else "others"


@everywhere
def test_captured_events(vetoed) -> None:
    """Capturing and reading events work under any veto and create no file, folder or key."""
    place, _, _ = vetoed
    before = content(place)
    found = probe(vetoed, IN_MEMORY)

    assert {name: error for name, (error, _) in found.items()} == dict.fromkeys(IN_MEMORY, "")
    assert content(place) == before


@everywhere
def test_recording_commands_load_no_pipeline(vetoed) -> None:
    """While recording is off, `record` and `hook` load no pipeline.

    To find the project, they read what the program declared.
    """
    for name in sorted(LIGHT_COMMANDS.intersection(COMMAND_NAMES)):
        error, loaded = probe(vetoed, {name: command(name)})[name]

        assert (error, {*loaded} - {"privacy.declared_names"}) == ("", set())


@everywhere
def test_recording_commands(vetoed) -> None:
    """While recording is off, `record` and `hook` create no file, folder or key."""
    place, _, _ = vetoed
    before = content(place)
    names = sorted(LIGHT_COMMANDS.intersection(COMMAND_NAMES))
    found = probe(vetoed, {name: command(name) for name in names})

    assert {name: error for name, (error, _) in found.items()} == dict.fromkeys(names, "")
    assert content(place) == before


READING = ("status", "doctor", "view", "stats", "answers", "find", "forget", "clear")
CONSENT_COMMANDS = ("enable", "disable", "preview", "schema")


@everywhere
def test_reading_commands_load_no_pipeline(vetoed) -> None:
    """Commands that read, delete or decide load no recording module."""
    for name in (*READING, *CONSENT_COMMANDS):
        _, loaded = probe(vetoed, {name: command(name)})[name]

        assert not {"recording.pipeline", "recording.recorder"}.intersection(loaded), name


@everywhere
def test_all_other_commands(vetoed) -> None:
    """While recording is off, no other command creates a file. Only `reset` deletes some."""
    place, _, _ = vetoed
    before = content(place)
    names = [n for n in COMMAND_NAMES if n not in LIGHT_COMMANDS | {"reset"}]
    found = probe(vetoed, {name: command(name) for name in names})

    assert {name: error for name, (error, _) in found.items()} == dict.fromkeys(names, "")
    assert content(place) == before
    probe(vetoed, {"reset": command("reset")})
    assert set(content(place)) <= set(before)


def test_the_number_of_cases() -> None:
    """The reference page has the number of entry points and the number of vetoes."""
    page = Path(__file__).parents[1] / "docs" / "reference" / "consent.md"
    points = len(LIGHT) + len(IN_MEMORY) + len(COMMAND_NAMES)

    assert f"{points} entry points, {len(VETOES)} vetoes" in page.read_text()
    rules = policy.environment_rules("FLOWSPEC", {}, every=True)
    assert set(VARIABLES) <= {rule.name for rule in rules}
    assert os.sep == "/"
