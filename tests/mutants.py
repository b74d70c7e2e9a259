"""Test the mutants that mutmut leaves, each in its own tree: `nox -s mutation` runs both.

mutmut changes functions inside one process. It cannot change code that runs at import, in a child
process or under a decorator. This module writes each mutant to disk, in a copy of the tree, and
runs the tests of its target in new processes.

For pytest this module is a plugin. `--processes without` deselects the tests that start processes
or threads, because they are slow and mutmut's changes do not reach them. `--processes only`
selects just those.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from pathlib import Path
from queue import Queue
from typing import Any

import libcst as cst
import pytest
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import read_functions_from_index
from mutmut.mutation.file_mutation import create_mutations
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

TABLE = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["tool"]["mutants"]
TARGETS: dict[str, list[str]] = TABLE["modules"]
AT_IMPORT: list[str] = TABLE["at_import"]
COPIED = ("telemetry_kit", "tests", "examples", "benchmarks", "docs", "pyproject.toml")
FOUND = Path("mutants/on-disk.json")
KILLED = ("killed", "timeout", "segfault")
WANTED: set[str] = set()
STARTERS = {"Popen", "fork", "python", "run", "spawn", "start", "subprocess"}


class Mutant:
    """One change of one function.

    Args:
        name: the unique name of the mutant.
        target: the file with the function.
        text: the whole file with the change.
        diff: the changed lines.
        tried: whether the tests that start no process have run on it.
    """

    def __init__(
        self, name: str, target: str, text: str, diff: list[str], tried: bool = False
    ) -> None:
        self.name = name
        self.target = target
        self.text = text
        self.diff = diff
        self.tried = tried


# -- the tests ---------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--processes`, which selects the tests to run."""
    parser.addoption("--processes", choices=("with", "without", "only"), default="with")


def pytest_configure(config: pytest.Config) -> None:
    """Collect whole files of the mutant's target, because finding each name takes seconds."""
    module = os.environ.get("MUTANT_UNDER_TEST", "").rpartition(".")[0]
    files = TARGETS.get(f"{module.replace('.', '/')}.py", [])
    own = [name for name in config.args if name.partition("::")[0] in files]
    if own:
        WANTED.update(own)
        config.args = sorted({name.partition("::")[0] for name in own})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that `--processes` excludes, and run the fastest tests first."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} has another name in each process")
    wanted = config.getoption("--processes")
    kept = [i for i in items if wanted == "with" or starts_processes(i) == (wanted == "only")]
    if WANTED:
        seconds = json.loads(Path("mutmut-stats.json").read_text("utf-8"))["duration_by_test"]
        kept = [item for item in kept if item.nodeid in WANTED]
        kept.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def starts_processes(item: Any) -> bool:
    """Return whether a test, its fixtures, or a function that they call starts a process."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    functions = [item.function, *(d.func for defs in fixtures for d in defs)]
    return any(_starts(function, 3) for function in functions)


def _starts(function: Callable[..., Any], depth: int) -> bool:
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    if STARTERS & {*code.co_names, *code.co_freevars}:
        return True
    called = (function.__globals__.get(name) for name in code.co_names)
    return depth > 0 and any(_starts(one, depth - 1) for one in called)


# -- the mutants -------------------------------------------------------------------------------


def functions(module: cst.Module) -> Iterator[tuple[str, cst.FunctionDef]]:
    """Yield every function and method with its dotted name."""
    for node in module.body:
        if isinstance(node, cst.FunctionDef):
            yield node.name.value, node
        elif isinstance(node, cst.ClassDef):
            for method in node.body.body:
                if isinstance(method, cst.FunctionDef):
                    yield f"{node.name.value}.{method.name.value}", method


def make_mutant(
    name: str, target: str, module: cst.Module, old: cst.CSTNode, new: cst.CSTNode
) -> Mutant:
    """Make the mutant that has `new` in the place of `old`."""
    text = module.deep_replace(old, new).code
    lines = unified_diff(module.code.splitlines(), text.splitlines(), lineterm="", n=0)
    return Mutant(
        name, target, text, [line for line in lines if line[:2] not in ("--", "++", "@@")]
    )


def surviving(target: str) -> Iterator[Mutant]:
    """Yield the mutants that mutmut did not kill."""
    data = SourceFileMutationData(path=Path(target))
    data.load()
    module = cst.parse_module(Path(target).read_text("utf-8"))
    known = dict(functions(module))
    for name, code in data.exit_code_by_key.items():
        if status_by_exit_code[code] in KILLED:
            continue
        function, owner = orig_function_and_class_names_from_key(name)
        old = known[f"{owner}.{function}" if owner else function.rpartition(".")[2]]
        found = read_functions_from_index(name, target)
        assert found is not None
        mutant = make_mutant(name, target, module, old, found[1].with_changes(name=old.name))
        mutant.tried = status_by_exit_code[code] == "survived" and function not in AT_IMPORT
        yield mutant


def decorated(target: str) -> Iterator[Mutant]:
    """Yield the mutants that mutmut does not make: those of decorated functions."""
    module = cst.parse_module(Path(target).read_text("utf-8"))
    for name, function in functions(module):
        if not function.decorators:
            continue
        # mutmut changes a function without a decorator.
        bare = cst.Module([function.with_changes(decorators=[], leading_lines=[])])
        visited, mutations, _, _ = create_mutations(target, bare.code)
        for number, mutation in enumerate(mutations, 1):
            changed = visited.deep_replace(mutation.original_node, mutation.mutated_node)
            body = cst.ensure_type(changed.body[0], cst.FunctionDef)
            new = body.with_changes(
                decorators=function.decorators, leading_lines=function.leading_lines
            )
            yield make_mutant(f"{target}:{name}:{number}", target, module, function, new)


def copy_of_the_tree(number: int) -> Path:
    """Copy the tree to a new folder, where mutants can be written."""
    tree = Path("mutants", f"tree-{number}").absolute()
    shutil.rmtree(tree, ignore_errors=True)
    skip = shutil.ignore_patterns("__pycache__", "mutants", ".*")
    for name in [*COPIED, *map(str, Path().glob("*.md"))]:
        if Path(name).is_dir():
            shutil.copytree(name, tree / name, ignore=skip)
        elif Path(name).exists():
            shutil.copy(name, tree / name)
    return tree


def verdict(
    tree: Path, target: str, text: str, parts: tuple[str, ...] = ("without", "only")
) -> str:
    """Return the result of a target's tests on a changed file, with the fastest tests first."""
    path = tree / target
    whole = path.read_text("utf-8")
    path.write_text(text, "utf-8")
    try:
        answers = (run_tests(tree, ["--processes", part, *TARGETS[target]]) for part in parts)
        return next((answer for answer in answers if answer != "survived"), "survived")
    finally:
        path.write_text(whole, "utf-8")


def run_tests(tree: Path, arguments: list[str]) -> str:
    """Run pytest in a tree, and return killed, survived or timeout."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", *TABLE["options"], *arguments]
    with subprocess.Popen(
        command,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as tests:
        try:
            code = tests.wait(TABLE["timeout_seconds"])
        except subprocess.TimeoutExpired:
            os.killpg(tests.pid, signal.SIGKILL)
            return "timeout"
    if code not in (0, 1, 2, 3, 5):
        raise SystemExit(f"pytest ended with {code}: {' '.join(command)}")
    return "survived" if code in (0, 5) else "killed"


def run(targets: list[str], jobs: int) -> None:
    """Test each untested mutant on disk, and save the results."""
    found = json.loads(FOUND.read_text("utf-8")) if FOUND.exists() else {}
    trees: Queue[Path] = Queue()
    for number in range(jobs):
        trees.put(copy_of_the_tree(number))

    def test_one(mutant: Mutant) -> None:
        tree = trees.get()
        try:
            parts = ("only",) if mutant.tried else ("without", "only")
            answer = verdict(tree, mutant.target, mutant.text, parts)
        finally:
            trees.put(tree)
        found[mutant.name] = {"target": mutant.target, "verdict": answer, "diff": mutant.diff}
        FOUND.write_text(json.dumps(found, indent=1), "utf-8")
        print(answer, mutant.name, *mutant.diff, sep="\n  ", flush=True)

    todo = [
        m
        for target in targets
        for m in (*surviving(target), *decorated(target))
        if m.name not in found
    ]
    todo.sort(key=lambda mutant: mutant.tried)
    for target in {mutant.target for mutant in todo}:
        if verdict(copy_of_the_tree(0), target, Path(target).read_text("utf-8")) != "survived":
            raise SystemExit(f"the tests of {target} fail without any mutant")
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(test_one, todo))


def table(targets: list[str]) -> str:
    """Format the results of all targets in Markdown."""
    found = json.loads(FOUND.read_text("utf-8"))
    rows = []
    for target in targets:
        data = SourceFileMutationData(path=Path(target))
        data.load()
        mine = {name: row["verdict"] for name, row in found.items() if row["target"] == target}
        in_process = {name: status_by_exit_code[c] for name, c in data.exit_code_by_key.items()}
        all_of_them = {**in_process, **mine}
        ended = list(all_of_them.values())
        killed, timeouts = ended.count("killed") + ended.count("segfault"), ended.count("timeout")
        total = len(ended)
        rows.append((target, total, killed, timeouts, total - killed - timeouts))
    rows.append(("together", *(sum(row[at] for row in rows) for at in range(1, 5))))
    lines = [
        "| target | mutants | killed | hung | survivors | found |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| `{name}` | {total:,} | {killed:,} | {hung:,} | {rest:,} | {1 - rest / total:.1%} |"
        for name, total, killed, hung, rest in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Test the mutants, or print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="files; all of the table when none is given")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only show what was found")
    given = parser.parse_args()
    targets = given.targets or list(TARGETS)
    if not given.table:
        run(targets, given.jobs)
    print(table(targets))


if __name__ == "__main__":
    main()
