"""Functions that a framework calls, with both orders of the decorators.

Each example of the page runs with the real framework in its own pytest. The session `frameworks`
installs all frameworks. Elsewhere, a missing framework is skipped.
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

# For each section: the required module, its name in the message, and the code that calls the
# function through the framework.
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
# Dramatiq needs a broker before the decorator is applied.
BEFORE = {
    "Dramatiq": "import dramatiq\nfrom dramatiq.brokers.stub import StubBroker\n"
    "dramatiq.set_broker(StubBroker())\n"
}


def test_the_page_has_every_framework() -> None:
    """The page has exactly the frameworks of the check, and each has a test."""
    assert set(SECTIONS) == set(CASES)
    checked = {package for package, _ in registrations.REGISTERED} - {"click"}
    assert checked == {module for module, _, _ in CASES.values()}


@pytest.mark.parametrize("section", CASES)
def test_the_order_of_decorators(section: str, tmp_path: Path, make_place) -> None:
    """The example records an event. The other order records none and is reported."""
    module, framework, call = CASES[section]
    if "TELEMETRY_KIT_ALL_FRAMEWORKS" not in os.environ:
        pytest.importorskip(module)
    correct = BEFORE.get(section, "") + SECTIONS[section]
    wrong, swaps = ORDER.subn(r"\2\1", correct)
    assert swaps == 1
    test = f"\n\ndef test_it(telemetry_events):\n    {call}\n    assert telemetry_events.types == "
    pair = "command.executed command.completed"
    if "AGENT_INVOKED" in correct:
        pair = "agent.invoked agent.completed"
    place = make_place("user")
    (place.root / "test_right.py").write_text(f"{correct}{test}{pair.split()}\n")
    (place.root / "test_wrong.py").write_text(f"{wrong}{test}[]\n")
    done = place.python(
        "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *PLUGIN
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr
    reported = [line for line in done.stdout.splitlines() if line.startswith("telemetry_kit: ")]
    problem = f"test_wrong.build is decorated, never called through {framework}"
    assert [f"telemetry_kit: {problem}: put @tracks below the decorator of {framework}"] == reported


def test_the_fixture_reports_the_wrong_order(make_place) -> None:
    """A failed assertion about events and `notes` name the wrong order."""
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


def test_workers_report_the_wrong_order(make_place) -> None:
    """With pytest-xdist, the controller prints the problem that a worker found."""
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
def test_the_mounted_doctor_reports_the_wrong_order(place, first: str, second: str) -> None:
    """The problem is a note, because the user of the program cannot repair it."""
    (place.root / "host.py").write_text(HOST.format(first=first, second=second))
    done = place.python("host.py", "telemetry", "doctor")
    notes = [line for line in done.stdout.splitlines() if "decorators" in line]

    assert 0 == done.returncode, done.stderr
    assert (first == TRACK) == bool(notes)
    assert all("__main__.build is decorated, never called through Typer" in n for n in notes)


def test_registering_both_functions() -> None:
    """A function can be registered with its decorator and without it."""
    typer = pytest.importorskip("typer")
    from telemetry_kit import tracks

    def registered_twice() -> None: ...

    app = typer.Typer()
    app.command("plain")(registered_twice)
    app.command("tracked")(tracks("agent.invoked", agent="a")(registered_twice))

    assert len(app.registered_commands) == 2
    assert not any("registered_twice" in line for line in registrations.not_called())


def test_objects_that_raise_are_ignored() -> None:
    """An object of the host that raises for an attribute is ignored."""
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
