"""The checks of the project, each in its own environment: `nox` runs the default ones."""

import json
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = False  # nox skips a missing one and logs it
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
# The tests of what works differently from one version of Python to the next.
ON_THE_INTERPRETER = (
    *("tests/instrumentation", "tests/integrations", "tests/recording", "tests/privacy"),
    *("tests/schema", "tests/test_context.py", "tests/test_context_processes.py"),
    *("tests/test_cold_start.py", "tests/test_events.py", "tests/test_examples.py"),
    *("tests/test_public_api.py", "tests/test_settings.py", "tests/test_testing.py"),
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

# The coding agents, in the versions that docs/how-to/coding-agents.md names.
CODING_AGENTS = {
    "claude": "@anthropic-ai/claude-code@2.1.197",
    "copilot": "@github/copilot@1.0.102",
    "codex": "@openai/codex@0.171.0",
    "gemini": "@google/gemini-cli@0.61.0",
}


FORGE = {
    "github-workflows": "workflows/*.yml",
    "dependabot": "dependabot.yml",
    "github-issue-forms": "ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": "ISSUE_TEMPLATE/config.yml",
}


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff and its formatter, and check the files of the forge against their schemas."""
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
    """Run mypy --strict and pyright on the package and on code that uses it."""
    session.install(".", *group("types"))
    paths = present(session, "telemetry_kit", "tests/typing")
    session.run("mypy", "--strict", *paths)
    session.run("pyright", *paths)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed package. Extra arguments are passed to pytest.

    The oldest interpreter runs them in file order. Each later one shuffles them with its own fixed
    seed: no test may depend on another, and a failure is reproducible. Python 3.12 runs only those
    that depend on the interpreter. The session `slow` runs the slow ones.
    """
    if not present(session, "tests"):
        return
    session.install(".", *group("test"))
    order = ["-p", "no:randomly"]
    if session.python != PYTHONS[0]:
        order = [f"--randomly-seed={str(session.python).replace('.', '')}"]
    which = ON_THE_INTERPRETER if session.python == "3.12" else ("tests", f"--ignore={FAULTS}")
    # Two processes: no test may depend on another, or on running alone.
    session.run("pytest", "-n", "2", "-m", "not slow", *order, *which, *session.posargs)


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """Run the tests that take longest, on the oldest interpreter."""
    if not present(session, "tests"):
        return
    session.install(".", *group("test"))
    order = ["-n", "2", "-m", "slow", "-p", "no:randomly"]
    session.run("pytest", *order, "tests", f"--ignore={FAULTS}", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the budgets, write benchmarks/results.json, and fail if one is missed."""
    if not present(session, "benchmarks/__main__.py"):
        return
    session.install(".", *group("bench"))
    # If there were no bytecode, a cold start would measure the compiler.
    env = {"PYTHONDONTWRITEBYTECODE": None}
    session.run("python", "-m", "benchmarks", *session.posargs, env=env)


@nox.session
def faults(session: nox.Session) -> None:
    """Inject kills, full disks and races for several minutes."""
    if not present(session, FAULTS):
        return
    session.install(".", *group("test"))
    session.run("pytest", "-n", "2", "-p", "no:randomly", FAULTS, *session.posargs)


@nox.session(default=False)
def recording(session: nox.Session) -> None:
    """Run the example and the tests of the decorators with every event recorded in memory.

    A test that passes when off and fails here would fail for users who have granted consent.
    """
    if not present(session, "tests"):
        return
    session.install(".", *group("test"))
    session.run("pytest", "--telemetry-record", *RECORDED, *session.posargs)


@nox.session(default=False)
def frameworks(session: nox.Session) -> None:
    """Run the example of every framework that calls decorated functions, or that runs agents."""
    if not present(session, "tests"):
        return
    session.install(".", *group("test", "frameworks"))
    tests = (
        *("tests/integrations/test_frameworks.py", "tests/integrations/test_other_parsers.py"),
        *(
            "tests/integrations/test_agent_frameworks.py",
            "tests/integrations/test_openai_agents.py",
        ),
        *("tests/integrations/test_otel.py", "tests/instrumentation/test_signatures.py"),
    )
    every = {"TELEMETRY_KIT_ALL_FRAMEWORKS": "1"}
    session.run("pytest", "-p", "no:randomly", *tests, *session.posargs, env=every)


@nox.session(default=False)
def agents(session: nox.Session) -> None:
    """Run the hooks inside real coding agents, offline against fakes of their models.

    The agents come from npm, about 1 GB, into the temporary folder of the session.
    """
    if not present(session, "tests/agents/test_real_agents.py"):
        return
    if shutil.which("npm") is None:
        session.skip("there is no npm, so no coding agent can be installed")
    folder = Path(session.create_tmp(), "agents").absolute()
    # Without a network it gives up after some seconds.
    options = ("--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1")
    npm = ("npm", "install", "--prefix", str(folder), *options, *CODING_AGENTS.values())
    session.run(*npm, external=True, success_codes=range(256))
    modules = folder / "node_modules"
    missing = [name for name in CODING_AGENTS if not (modules / ".bin" / name).exists()]
    if missing:
        session.skip(f"npm could not install these coding agents: {', '.join(missing)}")
    session.install(".", *group("test"))
    env = {"TELEMETRY_KIT_AGENTS": str(modules)}
    tests = "tests/agents/test_real_agents.py"
    # One after the other: they share the cores with the agents, which start many threads.
    session.run("pytest", "-p", "no:randomly", tests, *session.posargs, env=env)


@nox.session(default=False)
def programs(session: nox.Session) -> None:
    """Run five programs of the package index with `install()` in them, and without it."""
    if not present(session, "tests"):
        return
    session.install(".", *group("programs"))
    # One process for each program at a time: its tests share what it did.
    order = ["-n", "2", "--dist", "loadgroup", "-p", "no:randomly"]
    every = {"TELEMETRY_KIT_ALL_PROGRAMS": "1"}
    tests = "tests/integrations/test_programs.py"
    session.run("pytest", *order, tests, *session.posargs, env=every)


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """Build, check and install the package, and check that its types are installed."""
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
    """Compare what decorators do to functions, ours and those of peers. Write docs/reference/.

    CI does not run this session: it installs the newest versions of the peers, which may differ.
    """
    session.install(".", "trio")
    for peer in PEERS:
        # A peer that cannot be installed is omitted from the table.
        session.install(peer, success_codes=[0, 1])
    session.run("python", "-m", "benchmarks.conformance", "--markdown", *session.posargs)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Change the code of storage and consent, and count the changes that the tests detect.

    CI does not run this session, which takes hours. It works on a copy. If files are given, only
    those are changed. All arguments are passed to the second half, which tests on disk the mutants
    that the first half could not kill in one process.
    """
    paths = present(session, "tests/mutants.py", "telemetry_kit", "tests", "docs", "examples")
    if "tests/mutants.py" not in paths:
        return
    session.install(*PYPROJECT["project"]["dependencies"], *group("mutation"))
    tree = Path(session.create_tmp(), "tree")
    # The temporary folder is inside this repository, and tests in it would be part of this project.
    session.env.pop("TMPDIR")
    shutil.rmtree(tree, ignore_errors=True)
    for name in [*paths[1:], *present(session, "benchmarks")]:
        shutil.copytree(name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [Path("pyproject.toml"), *Path().glob("*.md")]:
        shutil.copy(path, tree / path)
    modules = [name for name in session.posargs if name.endswith(".py")]
    if modules:
        text = (tree / "pyproject.toml").read_text()
        head, _, tail = text.partition("only_mutate = [")
        selected = f"{head}only_mutate = {json.dumps(modules)}{tail.partition(']')[2]}"
        (tree / "pyproject.toml").write_text(selected)
    session.chdir(tree)
    session.run("mutmut", "run", "--max-children", "2")
    session.run("python", "tests/mutants.py", *session.posargs)


def group(*names: str) -> tuple[str, ...]:
    """Return the requirements of dependency groups in pyproject.toml."""
    return nox.project.dependency_groups(PYPROJECT, *names)


def present(session: nox.Session, *paths: str) -> list[str]:
    """Return the paths that this checkout has, and log the missing ones."""
    for path in paths:
        if not Path(path).exists():
            session.log(f"this checkout has no {path}: left out")
    return [path for path in paths if Path(path).exists()]
