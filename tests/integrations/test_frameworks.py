"""Functions that a framework calls: the examples of the page, in the right and the wrong order.

Each runs with the real framework, in a pytest of its own. The session `frameworks` installs all of
them; elsewhere those that are not installed are skipped.
"""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from telemetry_kit.instrumentation import registrations

PAGE = Path(__file__).parents[2] / "docs/how-to/frameworks.md"
SECTIONS = dict(
    re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
PLUGIN = (
    ()
    if entry_points(group="pytest11", name="telemetry_kit")
    else ("-p", "telemetry_kit.integrations.pytest")
)
# The two decorators of an example.
ORDER = re.compile(r"^(@(?!tracks).*\n)(@tracks.*\n)", re.MULTILINE)

# Section, the module that has to be installed, how the message calls it, and how a program of the
# framework comes to call the function.
CASES = {
    "Typer and Click": (
        "typer",
        "Typer",
        "from typer.testing import CliRunner; assert CliRunner().invoke(app, ['x']).exit_code == 0",
    ),
    "FastAPI": (
        "fastapi",
        "FastAPI",
        """from fastapi.testclient import TestClient
    assert TestClient(app).get('/build/x').json() == {'built': 'x'}""",
    ),
    "Cyclopts": ("cyclopts", "Cyclopts", "app(['build', 'x'], result_action='return_value')"),
    "FastMCP": (
        "fastmcp",
        "FastMCP",
        "import asyncio; asyncio.run(mcp.call_tool('build', {'target': 'x'}))",
    ),
    "Pydantic AI": (
        "pydantic_ai",
        "Pydantic AI",
        "from pydantic_ai.models.test import TestModel; agent.run_sync('x', model=TestModel())",
    ),
    "Celery": (
        "celery",
        "Celery",
        "app.conf.task_always_eager = True; assert build.delay('x', clean=True).get() == 'x'",
    ),
    "Dramatiq": (
        "dramatiq",
        "Dramatiq",
        """from dramatiq import Worker
    worker = Worker(build.broker)
    build.send('x')
    worker.start()
    build.broker.join(build.queue_name)
    worker.stop()""",
    ),
}
# Needs a broker before it decorates.
BEFORE = {
    "Dramatiq": "import dramatiq\nfrom dramatiq.brokers.stub import StubBroker\n"
    "dramatiq.set_broker(StubBroker())\n"
}


def test_the_page_has_every_framework() -> None:
    """Every framework that the check knows is on the page, and none is there without a test."""
    assert set(SECTIONS) == set(CASES)
    checked = {package for package, _ in registrations.REGISTERED} - {"click"}
    assert checked == {module for module, _, _ in CASES.values()}


@pytest.mark.parametrize("section", CASES)
def test_the_order_of_decorators(section: str, tmp_path: Path, make_place) -> None:
    """The example records through the framework; the other order records nothing and is named."""
    module, framework, call = CASES[section]
    if "TELEMETRY_KIT_ALL_FRAMEWORKS" not in os.environ:
        pytest.importorskip(module)
    right = BEFORE.get(section, "") + SECTIONS[section]
    wrong, swaps = ORDER.subn(r"\2\1", right)
    assert swaps == 1
    test = f"\n\ndef test_it(telemetry_events):\n    {call}\n    assert telemetry_events.types == "
    pair = "command.executed command.completed"
    if "AGENT_INVOKED" in right:
        pair = "agent.invoked agent.completed"
    place = make_place("user")
    (place.root / "test_right.py").write_text(f"{right}{test}{pair.split()}\n")
    (place.root / "test_wrong.py").write_text(f"{wrong}{test}[]\n")
    done = place.python(
        "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *PLUGIN
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("telemetry_kit: ")]
    told_of = f"test_wrong.build is decorated, never called through {framework}"
    assert [f"telemetry_kit: {told_of}: put @tracks below the decorator of {framework}"] == told


def test_the_fixture_says_so_where_nothing_was_recorded(make_place) -> None:
    """An assertion about events that fails for this reason names it; so does `notes`."""
    place = make_place("user")
    wrong = ORDER.sub(r"\2\1", SECTIONS["Typer and Click"])
    (place.root / "test_wrong.py").write_text(
        f"{wrong}\n\ndef test_it(telemetry_events):\n"
        "    assert telemetry_events.notes == []\n\n"
        "def test_sequence(telemetry_events):\n"
        "    telemetry_events.assert_sequence('command.executed')\n"
    )
    done = place.python(
        "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *PLUGIN
    )

    assert "2 failed" in done.stdout
    message = r"\(nothing was recorded\)\nE +test_wrong\.build is decorated, never called"
    assert re.search(message, done.stdout), done.stdout


def test_workers_pass_it_on(make_place) -> None:
    """With pytest-xdist the functions live in a worker, and the summary is of the controller."""
    place = make_place("user")
    wrong = ORDER.sub(r"\2\1", SECTIONS["Typer and Click"])
    test = "\n\ndef test_it(telemetry_events):\n    pass\n"
    (place.root / "test_wrong.py").write_text(wrong + test)
    done = place.python("-m", "pytest", "-n", "1", "-p", "no:cacheprovider", *PLUGIN)

    assert "telemetry_kit: test_wrong.build is decorated, never called" in done.stdout


HOST = """
import typer
from telemetry_kit import configure, tracks
from telemetry_kit.cli import typer_app

configure(app="flowspec")
app = typer.Typer()
app.add_typer(typer_app("flowspec"), name="telemetry")

{first}
{second}
def build() -> None: ...

@app.command()
def other() -> None: ...

app()
"""
REGISTER = "@app.command()"
TRACK = '@tracks("command.executed", command="build")'


@pytest.mark.parametrize(("first", "second"), [(REGISTER, TRACK), (TRACK, REGISTER)])
def test_the_mounted_doctor_says_so(place, first: str, second: str) -> None:
    """As a note: the user of the program cannot change it, so the check does not fail."""
    (place.root / "host.py").write_text(HOST.format(first=first, second=second))
    done = place.python("host.py", "telemetry", "doctor")
    notes = [line for line in done.stdout.splitlines() if "decorators" in line]

    assert 0 == done.returncode, done.stderr
    assert (first == TRACK) == bool(notes)
    assert all("__main__.build is decorated, never called through Typer" in n for n in notes)


def test_registering_both_is_no_mistake() -> None:
    """A function that is registered with its decorator may also be registered without it."""
    typer = pytest.importorskip("typer")
    from telemetry_kit import tracks

    def registered_twice() -> None: ...

    app = typer.Typer()
    app.command("plain")(registered_twice)
    app.command("tracked")(tracks("agent.invoked", agent="a")(registered_twice))

    assert len(app.registered_commands) == 2
    assert not any("registered_twice" in line for line in registrations.not_called())


def test_objects_that_answer_with_errors_are_passed_over() -> None:
    """A host's class may raise for any attribute."""
    typer = pytest.importorskip("typer")

    class Broken(typer.models.CommandInfo):
        @property
        def callback(self):
            raise RuntimeError

        @callback.setter
        def callback(self, value):
            pass

    broken = Broken("x")

    assert broken is not None
    assert isinstance(registrations.not_called(), list)
