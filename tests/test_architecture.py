"""The imports of the package follow its architecture. The tests read them with `ast`."""

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

import telemetry_kit

PACKAGE = Path(telemetry_kit.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "examples" not in p.relative_to(PACKAGE).parts)
# From the bottom up: a module imports neither a later line nor a later name of its line.
ORDER = runpy.run_path(str(Path(__file__).parents[1] / "docs/make.py"))["ORDER"]
RANK = {name: number for number, line in enumerate(ORDER) for name in line}
# The modules of a package that others may import. The package itself (`__init__`) always counts.
ENTRIES = {
    "agents": {
        "apps",
        "formats",
        "hook",
        "hook_files",
        "installation",
        "names",
        "pending",
        "roles",
    },
    "cli": {"click_adapter", "registry", "typer_adapter"},
    "consent": {
        "coding_agents",
        *("app_choice", "cache", "changes", "decision", "history", "notice", "obstacles"),
        *("policy", "prompt"),
    },
    "export": {"formats", "log", "reader"},
    "files": {"atomic", "git", "hash_chain", "leftovers", "private"},
    "insights": {
        *("answers", "cache", "counters", "counting", "metrics", "periods", "query", "reading"),
        "selection",
    },
    "instrumentation": {"proxies", "registrations", "sessions", "tracks"},
    "integrations": set(),
    "privacy": {"declared_names", "hmac_sha256", "keys", "program", "projects"},
    "recording": {"importer", "logger", "pipeline", "recorder"},
    "schema": {"catalog", "encoding", "kinds", "validation"},
    "storage": {
        *("compression", "limits", "maintenance", "parser", "reader", "rotation", "segments"),
        *("version_control", "writer"),
    },
    "verification": {
        *("certificate", "lookup", "machine_secrets", "recognisers"),
        *("search", "selftest_child", "verify"),
    },
}
NETWORK = {
    *("_socket", "_ssl", "aiohttp", "asyncio", "asyncore", "ftplib", "http", "httpx", "imaplib"),
    *("multiprocessing", "nntplib", "poplib", "requests", "selectors", "smtplib", "socket"),
    *("socketserver", "ssl", "telnetlib", "urllib", "urllib3", "webbrowser", "wsgiref", "xmlrpc"),
}
EMPTY_NAMES = {"utils", "util", "helpers", "common", "manager", "misc", "base"}
Import = ast.Import | ast.ImportFrom


def name_of(path: Path) -> str:
    """Return `storage.writer` for `telemetry_kit/storage/writer.py`, `storage` for its package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__") or "__init__"


MODULES = {name_of(path) for path in FILES}


def package_of(module: str) -> str:
    return module.partition(".")[0]


def is_type_checking(node: ast.AST) -> bool:
    """Return whether `node` is an `if TYPE_CHECKING:`."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(path: Path) -> Iterator[tuple[Import, bool]]:
    """Yield every import that can run, and whether it is deferred (inside a function).

    `load("...")` and any other string that is a module's name count as imports.
    """
    loaded: set[int] = set()
    stack: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), False)]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, Import):
            yield node, inside
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("telemetry_kit.")
            and node.value.removeprefix("telemetry_kit.") in MODULES
        ):
            lines = {"lineno": node.lineno, "end_lineno": node.end_lineno}
            yield ast.Import([ast.alias(node.value)], **lines), id(node) in loaded
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("load", "_runtime.load"):
            loaded.add(id(node.args[0]))
        if is_type_checking(node):
            continue
        deeper = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        stack += [(child, deeper) for child in ast.iter_child_nodes(node)]


def names(node: Import) -> list[str]:
    """Return the full names that one import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    found = []
    for alias in node.names:
        full = f"{node.module}.{alias.name}"
        found.append(full if full.removeprefix("telemetry_kit.") in MODULES else str(node.module))
    return found


def ours(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, deferred imports included."""
    found = {
        name.removeprefix("telemetry_kit.")
        for node, _ in imports(path)
        for name in names(node)
        if name.startswith("telemetry_kit.")
    }
    return found - {name_of(path)}


def others(path: Path) -> set[str]:
    """Return the top-level names of all other modules that a file imports."""
    return {name.partition(".")[0] for node, _ in imports(path) for name in names(node)}


def test_no_import_cycles() -> None:
    """The imports form no cycle, deferred imports included."""
    below = {name_of(path): ours(path) for path in FILES}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a cycle: {' > '.join((*trail, module))}"
        if module not in finished:
            for lower in below.get(module, ()):
                visit(lower, (*trail, module))
            finished.add(module)

    for module in below:
        visit(module, ())

    assert set(below) <= finished


def test_packages_are_in_order() -> None:
    """Every package and every top-level module is in the order."""
    assert {package_of(module) for module in MODULES} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_downward(path: Path) -> None:
    """No file imports from a package in a later line of the order."""
    here = package_of(name_of(path))
    found = {
        module
        for module in ours(path)
        if package_of(module) != here and RANK[package_of(module)] > RANK[here]
    }

    assert found == set()


def test_packages_have_no_cycles() -> None:
    """Packages in the same line of the order do not import each other both ways."""
    edges = {
        (package_of(name_of(path)), package_of(module)) for path in FILES for module in ours(path)
    }
    both = {(a, b) for a, b in edges if a < b and (b, a) in edges}

    assert both == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_packages_import_only_entry_modules(path: Path) -> None:
    """A package imports only the entry modules of other packages."""
    here = package_of(name_of(path))
    found = {
        module
        for module in ours(path)
        if "." in module
        and package_of(module) != here
        and here not in ("__init__", "__main__")
        and module.split(".")[1] not in ENTRIES[package_of(module)]
    }

    assert found == set()


def test_each_entry_is_used() -> None:
    """Some other package imports each entry module."""
    used = {
        module
        for path in FILES
        for module in ours(path)
        if package_of(module) != package_of(name_of(path))
    }
    public = {f"{package}.{entry}" for package, entries in ENTRIES.items() for entry in entries}

    assert public - used - PUBLIC == set()


# The modules that the lazy names of `telemetry_kit` load and that no other module imports.
PUBLIC = {"instrumentation.proxies", "recording.logger"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_inside_imports_the_public_names(path: Path) -> None:
    """The package imports a name from its module, never from `telemetry_kit`."""
    found = [
        alias.name
        for node, _ in imports(path)
        if isinstance(node, ast.ImportFrom) and node.module == "telemetry_kit"
        for alias in node.names
        if alias.name not in MODULES
    ]

    assert found == []


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("structlog", "recording.logger"),
        ("wrapt", "instrumentation.proxies"),
        ("duckdb", "export.formats"),
    ],
)
def test_a_library_is_imported_in_one_module(library: str, module: str) -> None:
    """One module imports each third-party library that recording or reading may need."""
    found = {name_of(path) for path in FILES if library in others(path)}

    assert found <= {module}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_network_module_is_imported(path: Path) -> None:
    """No module imports anything that can open a network connection."""
    assert others(path) & NETWORK == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_deferred_import_has_a_reason(path: Path) -> None:
    """Each deferred import, or the block above it, has a `# deferred: ...` comment."""
    text = path.read_text().splitlines()

    def reason(node: Import) -> bool:
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        while first > 0 and text[first - 1].lstrip().startswith(("from ", "import ")):
            first -= 1
        return any("# deferred: " in one for one in text[max(first - 4, 0) : last + 1])

    silent = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node, inside in imports(path)
        if inside and not reason(node)
    ]

    assert sorted(silent) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_are_absolute(path: Path) -> None:
    """Every import is absolute, so a search finds a module by its full name."""
    found = [n.lineno for n, _ in imports(path) if isinstance(n, ast.ImportFrom) and n.level]

    assert found == []


def test_no_meaningless_module_names() -> None:
    """No module is named utils, helpers, common, manager, misc or base."""
    words = {part.strip("_") for module in MODULES for part in module.split(".")}

    assert words & EMPTY_NAMES == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_has_a_docstring(path: Path) -> None:
    """The docstring of every module begins with a whole sentence."""
    written = ast.get_docstring(ast.parse(path.read_text()))

    assert written is not None
    assert written.split("\n\n")[0].rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_has_at_most_500_lines(path: Path) -> None:
    """A module has at most about 500 lines."""
    assert len(path.read_text().splitlines()) <= 520


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=name_of)
def test_a_package_has_no_code_of_its_own(path: Path) -> None:
    """The `__init__` of a package contains a docstring and no code, unless it is public."""
    body = ast.parse(path.read_text()).body

    assert len(body) == 1 or name_of(path) in ("__init__", "cli", "insights")


def test_the_documentation_lists_each_module() -> None:
    """The architecture page lists every module, package by package."""
    page = (Path(__file__).parents[1] / "docs/explanation/architecture.md").read_text()
    missing = [module for module in sorted(MODULES) if f"`{module}`" not in page]

    assert missing == []
