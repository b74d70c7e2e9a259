"""A decoration in a module or a class body declares its names. Any other declares none."""

import glob
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wrapt

from telemetry_kit import settings

# Names that begin with "yes" are declared by this module, those with "no" are not.
MODULE = '''
import dataclasses, sys
from telemetry_kit import configure, instrument, role_session, tracks
configure(app="flowspec")

def t(name):
    return name

@tracks("agent.invoked", agent="yes-function")
def function(): ...

class Plain:
    @tracks("agent.invoked", agent="yes-method")
    def method(self): ...

    class Inner:
        @staticmethod
        @tracks("agent.invoked", agent="yes-inner")
        def method(): ...

@dataclasses.dataclass(slots=True)
class Data:
    value: int = 0
    @tracks("agent.invoked", agent="yes-dataclass")
    def method(self): ...

made = [tracks("agent.invoked", agent=f"yes-list-{n}")(t) for n in range(2)]
made += list(tracks("agent.invoked", agent=f"yes-generator-{n}")(t) for n in range(2))
made += {n: tracks("agent.invoked", agent=f"yes-dict-{n}")(t) for n in range(2)}.values()
made += {tracks("agent.invoked", agent=f"yes-set-{n}")(t) for n in range(2)}
class Comprehensions:
    made = [[tracks("agent.invoked", agent=f"yes-nested-{n}")(t) for n in range(2)] for _ in "ab"]

@role_session("yes-session")
def session(): ...

made_here = tracks("agent.invoked", agent="yes-made-here")
def apply(decorator, target):
    return decorator(target)
apply(made_here, t)

def maker(name):
    return tracks("agent.invoked", agent=name)
@maker("yes-applied-here")
def applied(): ...

exec(compile("tracks('agent.invoked', agent='yes-executed')(t)", "m", "exec"), dict(globals()))
exec("tracks('agent.invoked', agent='yes-other-locals')(t)", dict(globals()), {})

import string
def with_instrument():
    return tracks("agent.invoked", agent="yes-instrument")
instrument("string:capwords", with_instrument()).undo()

if sys.version_info >= (3, 12):
    exec(compile("""
class Generic[T]:
    @tracks("agent.invoked", agent="yes-generic-class")
    def method(self): ...
@tracks("agent.invoked", agent="yes-generic-function")
def generic[T](value: T): ...
""", "m", "exec"), globals())

def running(name):
    tracks("agent.invoked", agent=name)(t)
    tracks("agent.invoked", agent=name)(lambda: None)()
    with tracks("agent.invoked", agent=name):
        pass
    role_session(name)(t)
    role_session("dev", command=name, workflow=name)(t)
    [tracks("agent.invoked", agent=name)(t) for _ in "a"]
    list(tracks("agent.invoked", agent=name)(t) for _ in "a")
    (lambda: tracks("agent.invoked", agent=name)(t))()
    instrument("string:capwords", tracks("agent.invoked", agent=name)).undo()
    class Local:
        @tracks("agent.invoked", agent=name)
        def method(self): ...
    tracks("agent.invoked", agent=name * 100)(t)
running("no-typed")

with tracks("agent.invoked", agent="no-block"):
    pass
'''
SHOW = """
import json
from telemetry_kit import settings
names = {v: sorted(settings.vocabulary(v)) for v in ("agents", "commands", "roles", "workflows")}
print(json.dumps(names))
"""
AGENTS = {
    *("yes-function", "yes-method", "yes-inner", "yes-dataclass", "yes-made-here"),
    *("yes-applied-here", "yes-executed", "yes-other-locals", "yes-instrument"),
    *(f"yes-{kind}-{n}" for kind in ("list", "generator", "dict", "set", "nested") for n in (0, 1)),
}
GENERIC = {"yes-generic-class", "yes-generic-function"}


def interpreters() -> list[str]:
    """Return this Python interpreter and the later versions installed next to it."""
    found = [sys.executable]
    for minor in (12, 13):
        found += sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/3.{minor}.*/bin/python")))
    return found


@pytest.mark.parametrize("python", interpreters())
@pytest.mark.parametrize("how", ["main", "imported"])
def test_what_declares(place, python: str, how: str) -> None:
    """Modules, class bodies and comprehensions declare names on each Python. Functions do not."""
    site = str(Path(wrapt.__file__).parents[1])
    env = {**place.env, "PYTHONPATH": os.pathsep.join([place.env["PYTHONPATH"], site])}
    Path(place.root, "a_module.py").write_text(MODULE)
    # A module imported inside a function has a top level, too.
    code = {"main": MODULE, "imported": "def f():\n    import a_module\nf()\n"}[how]
    done = subprocess.run(
        [python, "-c", code + SHOW],
        env=env,
        cwd=place.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout)
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout

    assert AGENTS | (GENERIC if " 3.11" not in version else set()) == set(names["agents"])
    assert {"yes-session"} == set(names["roles"]) - {"pm", "arch", "dev", "sec", "qa", "ops", "all"}
    assert ([], []) == (names["commands"], names["workflows"])


def test_user_input_is_in_no_file(place) -> None:
    """A name that arrives in a running function is stored as a pseudonym in every file."""
    done = place.run(
        "from telemetry_kit import *\n"
        "configure(app='flowspec')\n"
        "def main(typed):\n"
        "    tracks('command.executed', command=typed)(lambda: None)()\n"
        "    role_session('dev', agent=typed)(lambda: None)()\n"
        "main('Alice Example')\n"
    )
    assert (done.stderr, len(place.events())) == ("", 3)
    files = [p for top in (place.root, place.user) for p in top.rglob("*") if p.is_file()]

    assert [] == [p for p in files if b"Alice" in p.read_bytes()]


# -- many decorations --------------------------------------------------------------------------

MANY = """
import resource, sys
from telemetry_kit import *
configure(app="flowspec")
count = int(sys.argv[1])
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
tracks("agent.invoked", agent="first")(lambda: None)()
before = spent()
for number in range(count):
    tracks("agent.invoked", agent=f"agent-{number}")(lambda: None)()
print(spent() - before)
"""
INSIDE = (
    MANY.replace("for number", "def main():\n  for number")
    .replace("    tracks(", "      tracks(")
    .replace("print(", "main()\nprint(")
)


@pytest.mark.parametrize("code", [MANY, INSIDE], ids=["at the top level", "in a function"])
def test_cost_grows_linearly_with_decorations(place, code: str) -> None:
    """Four times the decorations cost about four times the work."""
    few, many = (float(place.run(code, str(count)).stdout) for count in (800, 3_200))

    assert many < 8 * few


def test_declared_names_are_bounded(at_top_level, place) -> None:
    """Decorations declare at most 4,096 names of a vocabulary. Later names are ignored."""
    at_top_level(
        "for n in range(5_000): tracks('agent.invoked', agent=f'agent-{n}', command='/c')(len)"
    )

    assert len(settings.vocabulary("agents")) == settings.MAX_DECORATED
    assert {"/c"} == settings.vocabulary("commands")


def test_waiting_names_are_bounded(undecided) -> None:
    """While recording is off, each name waiting to be declared is kept once."""
    done = undecided.run(
        "from telemetry_kit import *\nfrom telemetry_kit._runtime import runtime\n"
        "for n in range(50_000): tracks('agent.invoked', agent=f'agent-{n % 20_000}')(len)\n"
        "print(len(runtime.declared))"
    )

    assert "16384\n" == done.stdout
