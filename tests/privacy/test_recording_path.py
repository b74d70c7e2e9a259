"""The modules that record an event open no connection and start no process or thread."""

import ast
from pathlib import Path

import telemetry_kit

PACKAGE = Path(telemetry_kit.__file__).parent
ENTRIES = (
    *("recording.pipeline", "recording.logger", "recording.recorder", "cli.record"),
    *("instrumentation.tracks", "instrumentation.sessions", "instrumentation.coroutines"),
)
FORBIDDEN = {
    *("socket", "_socket", "ssl", "_ssl", "http", "urllib", "ftplib", "smtplib", "poplib"),
    *("imaplib", "telnetlib", "xmlrpc", "asyncio", "selectors", "select", "socketserver"),
    *("subprocess", "_posixsubprocess", "multiprocessing", "concurrent", "pty"),
    *("threading", "_thread.start_new_thread", "sched", "requests", "httpx", "aiohttp"),
}
# The first prompts the user, the second runs git. Both run before the first event is recorded.
BEFORE_RECORDING = {"consent.prompt", "storage.version_control"}


def path_of(module: str) -> Path | None:
    """Return the file of a module, or None if there is no such module."""
    base = PACKAGE.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imports(path: Path) -> set[str]:
    """Return the full names of a file's imports, also deferred ones, except for annotations."""
    found: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("telemetry_kit."):
            found.add(str(node.value))  # the name given to `load()`
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            stack += node.orelse
        else:
            stack += ast.iter_child_nodes(node)
    return found


def reachable() -> dict[str, set[str]]:
    """Map each module that a recording program can load to its imports from other packages."""
    todo = [module for module in ENTRIES if path_of(module) is not None]
    seen: dict[str, set[str]] = {}
    while todo:
        module = todo.pop()
        path = path_of(module)
        if module in seen or module in BEFORE_RECORDING or path is None:
            continue
        names = imports(path)
        seen[module] = {n for n in names if not n.startswith("telemetry_kit")}
        todo += [n.removeprefix("telemetry_kit.") for n in names if n.startswith("telemetry_kit.")]
    return seen


def test_no_network_process_or_thread_is_reachable() -> None:
    """No import, direct or deferred, leads to a module for networks, processes or threads."""
    found = {
        (module, name)
        for module, names in reachable().items()
        for name in names
        if name in FORBIDDEN or name.partition(".")[0] in FORBIDDEN
    }

    assert set() == found
    assert {"consent.policy", "privacy.keys", "storage.writer", "consent.cache"} <= set(reachable())


def test_recording_loads_no_such_module(place) -> None:
    """A program that has recorded an event has loaded none of these modules."""
    done = place.run(
        "import sys; before = set(sys.modules); from telemetry_kit import track_role_event; "
        "assert track_role_event('role.selected', role='dev'); "
        "print(*sorted(set(sys.modules) - before))"
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert set() == set(done.stdout.split()) & FORBIDDEN
