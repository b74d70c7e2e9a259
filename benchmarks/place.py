"""A home directory and a project for one measurement, and the processes that run in them.

The caller's own home directory, project and environment are not used.
"""

import contextlib
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The variables that an interpreter may need to start. No other variable is passed on.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
_NAMED = "import telemetry_kit; telemetry_kit.configure(app='flowspec'); "
_GRANT = (
    _NAMED + "from telemetry_kit.consent.changes import enable_telemetry as f; assert f() is True"
)
_DENY = _NAMED + "from telemetry_kit.consent.changes import disable_telemetry as f; f()"
_MARK = "  # without:"


class Place:
    """A temporary home directory with one project.

    Args:
        root: an empty folder.
        decision: `yes`, `no`, or None for a user without a decision.
        more: further environment variables.
    """

    def __init__(
        self, root: Path, decision: str | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        self.project = root / "project"
        self.home = root / "home"
        self.project.mkdir(parents=True)
        self.home.mkdir()
        self.env = {k: os.environ[k] for k in _KEPT if k in os.environ}
        self.env |= {"HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        if decision is not None:
            self.output([sys.executable, "-c", _GRANT if decision == "yes" else _DENY])
        self.env |= more or {}

    def output(self, command: Sequence[str]) -> str:
        """Run a process here without measuring it, and return what it prints.

        Raises:
            RuntimeError: the process failed; the message has its error output.
        """
        done = subprocess.run(
            command, cwd=self.project, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"a measured process failed:\n{done.stderr}")
        return done.stdout

    def seconds(self, command: list[str], stdin: str = os.devnull) -> float:
        """Run a process here, and return how long it took from start to end.

        Args:
            command: the process.
            stdin: the file that it reads.

        Raises:
            RuntimeError: the process failed; the message has its error output.
        """
        os.chdir(self.project)
        errors_file = self.home.parent / "stderr"
        keep = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        file_actions = [
            (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(errors_file), keep, 0o600),
        ]
        began = time.perf_counter()
        process = os.posix_spawn(command[0], command, self.env, file_actions=file_actions)
        _, status = os.waitpid(process, 0)
        took = time.perf_counter() - began
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            raise RuntimeError(f"a measured process ended with {code}:\n{errors_file.read_text()}")
        return took

    def events(self) -> int:
        """Count the lines on disk, those in rotated and compressed files included."""
        return lines_in(self.project / ".flowspec", "telemetry*.jsonl*")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Make this the home, project and environment of the current process."""
        from telemetry_kit.consent import cache

        before, here = dict(os.environ), Path.cwd()
        _replace_environment(self.env)
        os.chdir(self.project)
        cache.invalidate()
        try:
            yield
        finally:
            os.chdir(here)
            _replace_environment(before)
            cache.invalidate()


def lines_in(folder: Path, pattern: str) -> int:
    """Count the lines in the files of a folder, compressed files included."""
    count = 0
    for path in folder.glob(pattern):
        data = path.read_bytes()
        count += (gzip.decompress(data) if path.suffix == ".gz" else data).count(b"\n")
    return count


def program(folder: Path, host: str, name: str, text: str | None = None) -> list[str]:
    """Write a host program: a compiled module, and a script of two lines that starts it.

    So a measured process compiles only those two lines.

    Args:
        folder: the folder to write to.
        host: the file in `hosts/` with the source.
        name: the name of the new module.
        text: the source, if it differs from that of the file.

    Returns:
        The command that runs the program.
    """
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source(host) if text is None else text)
    script = folder / f"run_{name}.py"
    script.write_text(f"import sys\nfrom {name} import main\nsys.exit(main(sys.argv[1:]))\n")
    return [sys.executable, str(script), "implement", "a small task"]


def source(host: str) -> str:
    """Return the source of a host program."""
    return (HERE / "hosts" / f"{host}.py").read_text()


def without(text: str) -> str:
    """Return the same program without us: each line marked `# without: X` becomes X."""
    lines = []
    for line in text.splitlines():
        kept, mark, instead = line.partition(_MARK)
        if not mark:
            lines.append(line)
        elif instead.strip():
            indent = kept[: len(kept) - len(kept.lstrip())]
            lines.append(indent + instead.strip())
    return "\n".join(lines) + "\n"


def check_bytecode(place: Place) -> None:
    """Check that a cold start does not measure the compiler.

    Raises:
        RuntimeError: the library has no compiled files and cannot write them.
    """
    code = "import telemetry_kit, os; print(os.path.exists(telemetry_kit.__cached__))"
    if [place.output([sys.executable, "-c", code]).strip() for _ in range(2)][1] != "True":
        raise RuntimeError("telemetry_kit has no bytecode: a cold start would measure the compiler")


def _replace_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
