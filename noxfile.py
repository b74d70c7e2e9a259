"""Every check of the project, each in an environment of its own: `nox` runs the default ones."""

import json
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = False  # a missing one is skipped, and nox says which
nox.options.download_python = "never"
nox.options.reuse_venv = "no"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
FAULTS = "tests/faults"
RECORDED = (
    "tests/test_conformance.py",
    "tests/test_events.py",
    "tests/test_examples.py",
    "tests/instrumentation/test_proxies.py",
    "tests/instrumentation/test_proxies_identity.py",
    "tests/instrumentation/test_returned.py",
    "tests/instrumentation/test_signatures.py",
    "tests/instrumentation/test_coroutines.py",
    "tests/instrumentation/test_generators.py",
    "tests/instrumentation/test_same_as_undecorated.py",
    "tests/instrumentation/test_tracks.py",
    "tests/instrumentation/test_tracks_host.py",
    "tests/test_unharmed.py",
)
PEERS = (
    "agentops",
    "ddtrace",
    "langfuse",
    "logfire",
    "openinference-instrumentation",
    "opentelemetry-sdk",
    "prometheus-client",
    "sentry-sdk",
)


FORGE = {
    "github-workflows": "workflows/*.yml",
    "dependabot": "dependabot.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": "ISSUE_TEMPLATE/config.yml",
}


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: the rules, and the format; what the forge reads, against its schemas."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    if not present(session, ".github"):
        return
    for schema, files in FORGE.items():
        paths = sorted(str(path) for path in Path(".github").glob(files))
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths, silent=True)
    session.run("zizmor", "--offline", "--quiet", ".github")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy --strict and pyright, on the package and on what a caller's checker sees."""
    session.install(".", *group("types"))
    paths = present(session, "telemetry_kit", "tests/typing")
    session.run("mypy", "--strict", *paths)
    session.run("pyright", *paths)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests against the installed package; extra arguments go to pytest.

    The oldest interpreter runs all in file order, each later one those that are not slow, shuffled
    by a fixed seed of its own: no test may lean on another, and a failure comes back.
    """
    if not present(session, "tests"):
        return
    session.install(".", *group("test"))
    # Two at a time: no test may lean on another, nor on being alone.
    order = ["-n", "2", "-p", "no:randomly"]
    if session.python != PYTHONS[0]:
        order = [
            "-n",
            "2",
            "-m",
            "not slow",
            f"--randomly-seed={str(session.python).replace('.', '')}",
        ]
    session.run("pytest", *order, f"--ignore={FAULTS}", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The budgets: writes benchmarks/results.json, fails when one is missed."""
    if not present(session, "benchmarks/__main__.py"):
        return
    session.install(".", *group("bench"))
    # Without its bytecode a cold start measures the compiler.
    env = {"PYTHONDONTWRITEBYTECODE": None}
    session.run("python", "-m", "benchmarks", *session.posargs, env=env)


@nox.session
def faults(session: nox.Session) -> None:
    """The fault campaign: kills, full disks, races; minutes rather than seconds."""
    if not present(session, FAULTS):
        return
    session.install(".", *group("test"))
    session.run("pytest", "-p", "no:randomly", FAULTS, *session.posargs)


@nox.session(default=False)
def recording(session: nox.Session) -> None:
    """The example and the tests of the decorators, each recorded into memory.

    What passes when off and fails here would differ for users who have granted consent.
    """
    if not present(session, "tests"):
        return
    session.install(".", *group("test"))
    session.run("pytest", "--telemetry-record", *RECORDED, *session.posargs)


@nox.session(default=False)
def frameworks(session: nox.Session) -> None:
    """The examples for each framework that calls decorated functions, with all of them."""
    if not present(session, "tests"):
        return
    session.install(".", *group("test", "frameworks"))
    tests = ("tests/integrations/test_frameworks.py", "tests/instrumentation/test_signatures.py")
    every = {"TELEMETRY_KIT_ALL_FRAMEWORKS": "1"}
    session.run("pytest", "-p", "no:randomly", *tests, *session.posargs, env=every)


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """What would be uploaded: built, checked, installed, and typed where it is installed."""
    session.install(*group("package"))
    folder = Path(session.create_tmp(), "dist")
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    built = sorted(str(path) for path in folder.iterdir())
    session.run("twine", "check", "--strict", *built)
    session.install(*(path for path in built if path.endswith(".whl")))
    marker = (
        "import telemetry_kit as t, pathlib as p; p.Path(t.__file__).with_name('py.typed').stat()"
    )
    relative_links = (
        "import importlib.metadata as m, re, sys;"
        r"sys.exit(re.search(r'\]\((?!https?:|#)', str(m.metadata('telemetry-kit'))) is not None)"
    )
    with session.chdir(folder):
        session.run("python", "-c", marker)
        session.run("python", "-c", relative_links)
        session.run("telemetry-kit", "--version")


@nox.session(default=False)
def conformance(session: nox.Session) -> None:
    """What decorators do to functions, ours and those of peers: writes docs/reference/.

    Not run in CI: it installs the peers, whose newest versions may answer differently.
    """
    session.install(".", "trio")
    for peer in PEERS:
        # One that cannot be installed here is left out of the table.
        session.install(peer, success_codes=[0, 1])
    session.run("python", "-m", "benchmarks.conformance", "--markdown", *session.posargs)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """What the tests of journal and consent find when the code is changed; hours.

    Not run in CI. It works on a copy. With files as arguments only those are changed; all arguments
    go to the second half, which tries on disk what the first has left in one process.
    """
    paths = present(session, "tests/mutants.py", "telemetry_kit", "tests", "docs", "examples")
    if "tests/mutants.py" not in paths:
        return
    session.install(*PYPROJECT["project"]["dependencies"], *group("mutation"))
    tree = Path(session.create_tmp(), "tree")
    # It lies in this repository, and what is tried in a folder of it would count as part of it.
    session.env.pop("TMPDIR")
    shutil.rmtree(tree, ignore_errors=True)
    for name in [*paths[1:], *present(session, "benchmarks")]:
        shutil.copytree(name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [Path("pyproject.toml"), *Path().glob("*.md")]:
        shutil.copy(path, tree / path)
    modules = [name for name in session.posargs if name.endswith(".py")]
    if modules:
        text = (tree / "pyproject.toml").read_text()
        before, _, behind = text.partition("only_mutate = [")
        chosen = f"{before}only_mutate = {json.dumps(modules)}{behind.partition(']')[2]}"
        (tree / "pyproject.toml").write_text(chosen)
    session.chdir(tree)
    session.run("mutmut", "run", "--max-children", "2")
    session.run("python", "tests/mutants.py", *session.posargs)


def group(*names: str) -> tuple[str, ...]:
    """What a dependency group of pyproject.toml asks for."""
    return nox.project.dependency_groups(PYPROJECT, *names)


def present(session: nox.Session, *paths: str) -> list[str]:
    """The paths that this checkout has; the session's log names the others."""
    for path in paths:
        if not Path(path).exists():
            session.log(f"this checkout has no {path}: left out")
    return [path for path in paths if Path(path).exists()]
