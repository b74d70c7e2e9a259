"""The laws of the house: which room may import which, read from the source with `ast`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import telemetry_kit

PACKAGE = Path(telemetry_kit.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "examples" not in p.relative_to(PACKAGE).parts)
WINGS = ("insights", "cli", "bridges", "proof")
STREET = [
    p
    for p in FILES
    if p.relative_to(PACKAGE).parts[0] not in (*WINGS, "__init__.py", "__main__.py")
]
WRITE_HALF = {
    "instrumentation.session_span",
    "_api",
    "consent.changes",
    "consent.cache",
    "storage.writer",
    "storage.rotation",
    "_runtime",
    "recording.logger",
    "recording.pipeline",
    "instrumentation.proxies",
    "context",
    "instrumentation.sessions",
    "instrumentation.spans",
    "instrumentation.coroutines",
    "instrumentation.tracks",
    "instrumentation.decorate",
}
NETWORK = {
    "_socket",
    "_ssl",
    "aiohttp",
    "asyncio",
    "asyncore",
    "ftplib",
    "http",
    "httpx",
    "imaplib",
    "multiprocessing",
    "nntplib",
    "poplib",
    "requests",
    "selectors",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "telnetlib",
    "urllib",
    "urllib3",
    "webbrowser",
    "wsgiref",
    "xmlrpc",
}
FORBIDDEN_ROOMS = {"utils", "util", "helpers", "common", "manager", "misc", "base"}


def name_of(path: Path) -> str:
    """`telemetry_kit/storage/writer.py` is `journal.lease`, a folder's `__init__` the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__") or "__init__"


def label(path: Path) -> str:
    """A readable test id."""
    return name_of(path)


ROOMS = {name_of(path) for path in FILES}
Import = ast.Import | ast.ImportFrom


def is_type_checking(node: ast.AST) -> bool:
    """Whether `node` is an `if TYPE_CHECKING:`."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(path: Path) -> Iterator[tuple[Import, bool]]:
    """Every import that can run, and whether it stands inside a function.

    `load("...")` is one, too.
    """
    stack: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), False)]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, Import):
            yield node, inside
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and ast.unparse(node.func) in ("load", "latch.load")
            and isinstance(node.args[0], ast.Constant)
        ):
            where = {"lineno": node.lineno, "end_lineno": node.end_lineno}
            yield ast.Import([ast.alias(node.args[0].value)], **where), inside
        if is_type_checking(node):
            continue
        deeper = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        stack += [(child, deeper) for child in ast.iter_child_nodes(node)]


def modules(node: Import) -> list[str]:
    """The full names that one import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    found = []
    for alias in node.names:
        full = f"{node.module}.{alias.name}"
        is_room = full.removeprefix("telemetry_kit.") in ROOMS
        found.append(full if is_room else str(node.module))
    return found


def rooms(path: Path, deferred: bool = True) -> set[str]:
    """The rooms of the house that a file imports."""
    return {
        name.removeprefix("telemetry_kit.")
        for node, inside in imports(path)
        if deferred or not inside
        for name in modules(node)
        if name.startswith("telemetry_kit.")
    }


def outsiders(path: Path) -> set[str]:
    """Top-level names of everything else that it imports."""
    return {name.partition(".")[0] for node, _ in imports(path) for name in modules(node)}


def test_street_has_no_circles() -> None:
    """Following imports, deferred ones too, never leads back to where one began."""
    below = {name_of(path): rooms(path) for path in STREET}
    finished: set[str] = set()

    def visit(room: str, trail: tuple[str, ...]) -> None:
        assert room not in trail, f"a circle: {' > '.join((*trail, room))}"
        if room not in finished:
            for lower in below.get(room, ()):
                visit(lower, (*trail, room))
            finished.add(room)

    for room in below:
        visit(room, ())

    assert set(below) <= finished


@pytest.mark.parametrize("path", STREET, ids=label)
def test_street_never_imports_a_wing(path: Path) -> None:
    """No file on the street imports insights, cli or bridges, not even later."""
    found = {room for room in rooms(path) if room.partition(".")[0] in WINGS}

    assert set() == found


@pytest.mark.parametrize(
    "path", [p for p in FILES if name_of(p).startswith("insights")] or [None], ids=str
)
def test_insights_never_imports_the_write_half(path: Path | None) -> None:
    """Who reads events has no way to write one."""
    found = rooms(path) & WRITE_HALF if path else set()

    assert set() == found


@pytest.mark.parametrize(
    "path", [p for p in FILES if name_of(p).startswith("bridges")] or [None], ids=str
)
def test_bridges_import_neither_cli_nor_insights(path: Path | None) -> None:
    """A bridge knows the street and its own neighbour."""
    found = (
        {r for r in rooms(path) if r.partition(".")[0] in ("cli", "insights")} if path else set()
    )

    assert set() == found


@pytest.mark.parametrize("path", FILES, ids=label)
def test_nobody_inside_imports_the_face(path: Path) -> None:
    """Inside the house a name is imported from its room, never from the face."""
    found = [
        alias.name
        for node, _ in imports(path)
        if isinstance(node, ast.ImportFrom) and node.module == "telemetry_kit"
        for alias in node.names
        if alias.name not in ROOMS
    ]

    assert found == []


@pytest.mark.parametrize(
    ("neighbour", "room"),
    [("structlog", "recording.logger"), ("wrapt", "instrumentation.proxies")],
    ids=str,
)
def test_a_neighbour_is_named_in_one_room(neighbour: str, room: str) -> None:
    """Only `logger` imports structlog and only `proxies` imports wrapt."""
    found = {name_of(path) for path in FILES if neighbour in outsiders(path)}

    assert found <= {room}


@pytest.mark.parametrize("path", FILES, ids=label)
def test_no_network_module_is_imported(path: Path) -> None:
    """It stays here: nothing that can open a connection is imported anywhere."""
    found = outsiders(path) & NETWORK

    assert set() == found


@pytest.mark.parametrize("path", FILES, ids=label)
def test_a_deferred_import_says_why(path: Path) -> None:
    """An import inside a function has `# deferred: ...` on its line or within two lines above."""
    text = path.read_text().splitlines()
    silent = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node, inside in imports(path)
        if inside
        and not any(
            "# deferred: " in line
            for line in text[max(node.lineno - 3, 0) : node.end_lineno or node.lineno]
        )
    ]

    assert sorted(silent) == []


@pytest.mark.parametrize("path", FILES, ids=label)
def test_imports_are_absolute(path: Path) -> None:
    """No import is relative, so that a room is found by its whole name."""
    found = [n.lineno for n, _ in imports(path) if isinstance(n, ast.ImportFrom) and n.level]

    assert found == []


def test_no_room_without_a_meaning() -> None:
    """No room is called utils, helpers, common, manager, misc or base."""
    words = {part.strip("_") for room in ROOMS for part in room.split(".")}

    assert set() == words & FORBIDDEN_ROOMS


@pytest.mark.parametrize("path", FILES, ids=label)
def test_a_room_says_what_lives_in_it(path: Path) -> None:
    """Every file begins with a docstring whose first line is a whole sentence."""
    told = ast.get_docstring(ast.parse(path.read_text()))

    assert told is not None
    assert told.split("\n\n")[0].rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize("path", STREET, ids=label)
def test_a_room_fits(path: Path) -> None:
    """A room that passes about 500 lines becomes a folder."""
    assert len(path.read_text().splitlines()) <= 520
