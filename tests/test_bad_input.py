"""Whatever is wrong around it: the host program runs on as if we were not there."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

# A small tool of a host: it prints, fails in one way, and exits with a code of its own.
HOST = """
import sys
{imports}

{decorator}
def work(n):
    print("working", n)
    return n * 2

def main():
    {session}
        for n in range(3):
            assert work(n) == n * 2
        print("to stderr", file=sys.stderr)
        try:
            raise KeyError("host")
        except KeyError:
            print("handled")
    sys.exit(7)

{prepare}
main()
"""
PLAIN = HOST.format(imports="", decorator="", session="if True:", prepare="{prepare}")
TRACKED = HOST.format(
    imports="from telemetry_kit import RoleEvent, role_session, track_role_event, tracks",
    decorator='@tracks(RoleEvent.AGENT_INVOKED, agent="a")',
    session='with role_session("dev", workflow="w"), tracks("command.executed"):',
    prepare="track_role_event('role.selected', role='x')\n{prepare}",
)


def told(done: "CompletedProcess[str]") -> tuple[int, str, str]:
    """All that a caller of the program sees."""
    return done.returncode, done.stdout, done.stderr


def same(place, prepare: str = "", **options: object) -> None:
    """Run the tool with and without us; nothing of what is seen may differ."""
    plain = place.run(PLAIN.replace("{prepare}", prepare), **options)
    tracked = place.run(TRACKED.replace("{prepare}", prepare), **options)

    assert (7, told(plain)) == (plain.returncode, told(tracked))


def outside(place) -> dict[str, bytes]:
    """Everything but the project and the user's folders, with contents."""
    found = {}
    for path in sorted(place.root.parent.rglob("*")):
        if place.root not in path.parents and place.user not in path.parents and path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def test_on(place) -> None:
    """Recording, the tool's output and exit code are those without us; its events are on file."""
    same(place)

    inner = ["agent.invoked", "agent.completed"] * 3
    assert [
        *("role.selected", "role.selected", "workflow.started", "command.executed"),
        *inner,
        *("command.completed", "workflow.completed"),
    ] == place.types()


def test_off(undecided) -> None:
    """Off, the same, and nothing is on disk."""
    same(undecided)

    assert undecided.tree() == []


def test_without_a_home_directory(place) -> None:
    """HOME empty, `/` or relative: nothing changes, nothing is made."""
    before = place.tree()
    for user in ("", "/", "relative"):
        same(place, env={"HOME": user})

    assert before == place.tree()


def test_home_not_set(place) -> None:
    """Without any HOME the program runs on, too."""
    del place.env["HOME"]
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        # Whoever runs the tests has a home: nothing of it is read.
        place.env[name] = str(place.user / "nothing")

    same(place)


def test_a_deleted_working_directory(place) -> None:
    """The working directory goes away under the program."""
    same(place, "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')")

    assert not (place.root / "gone").exists()


def plant_link(path: Path, target: Path) -> None:
    """A link to somebody else's file."""
    target.write_bytes(b"theirs\n")
    target.chmod(0o600)
    path.symlink_to(target)


PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "link": plant_link,
    "dangling link": lambda path, target: path.symlink_to(target),
    "directory": lambda path, _: path.mkdir(),
    "fifo": lambda path, _: os.mkfifo(path, 0o600),
    "device": lambda path, _: path.symlink_to("/dev/full"),
    "open to others": lambda path, _: (path.write_bytes(b"theirs\n"), path.chmod(0o666)),
}


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize("name", [".flowspec/telemetry.jsonl", ".flowspec"])
def test_something_in_the_way(place, kind: str, name: str) -> None:
    """Whatever stands in the log's or the folder's place: the program runs on, it stays."""
    path = place.root / name
    path.parent.mkdir(exist_ok=True)
    PLANTS[kind](path, place.root.parent / "outside")
    before, seen = outside(place), os.lstat(path)
    same(place)
    after = os.lstat(path)

    assert (before, seen.st_ino, seen.st_mode) == (outside(place), after.st_ino, after.st_mode)
    if name == ".flowspec/telemetry.jsonl" or not stat.S_ISDIR(seen.st_mode):
        assert (seen.st_size, seen.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_log(place) -> None:
    """A log of another user: the program runs on, the file stays as it is."""
    place.log.parent.mkdir(exist_ok=True)
    place.log.write_bytes(b"theirs\n")
    place.log.chmod(0o600)
    os.chown(place.log, 65_534, 65_534)
    same(place)

    assert place.log.read_bytes() == b"theirs\n"


@pytest.mark.parametrize("what", ["key", "place key", "record", "user file", "repository file"])
@pytest.mark.parametrize("content", [b"", b"\0" * 32, b"\xff" * 10_000, b"[[["], ids=len)
def test_damaged_files(place, what: str, content: bytes) -> None:
    """A damaged key, record or configuration: off, the program runs on, the file stays."""
    path = {
        "key": place.key_file,
        "place key": Path(place.home.directory_key),
        "record": place.record,
        "user file": Path(place.home.user_file),
        "repository file": place.root / ".flowspec/telemetry.toml",
    }[what]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    same(place)

    assert content == path.read_bytes()
    # An empty configuration file is a configuration that says nothing.
    assert (content == b"" and what.endswith("file")) == bool(place.lines())


def test_an_unwritable_project(unprivileged) -> None:
    """A project that the user may not write to."""
    unprivileged.root.chmod(0o555)
    same(unprivileged)

    assert list(unprivileged.root.iterdir()) == []


def test_an_unwritable_home(unprivileged) -> None:
    """Config and state that the user may no longer write to do not keep events out."""
    for path in (
        unprivileged.user / ".config",
        unprivileged.user / ".local/state/telemetry-kit/flowspec",
    ):
        for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
            folder.chmod(0o500)
    same(unprivileged)

    assert unprivileged.lines()


def test_an_unreadable_home(unprivileged) -> None:
    """Config that the user may no longer read means off."""
    (unprivileged.user / ".config/telemetry-kit/flowspec").chmod(0)
    same(unprivileged)
    (unprivileged.user / ".config/telemetry-kit/flowspec").chmod(0o700)

    assert list(unprivileged.root.iterdir()) == []


@pytest.fixture
def tiny(place, tmp_path):
    """The place's project on a file system of 64 kB; skipped where none can be mounted."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "tmpfs", str(place.root)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        os.chdir(place.root.parent)
        subprocess.run(["umount", "-l", str(place.root)], check=True)


def test_a_full_disk(tiny) -> None:
    """A disk that is full from the start: the program runs on, and nothing torn is left."""
    filler = tiny.root / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, b"x" * 4096):
            pass
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - the loop ends no other way
    os.close(fd)
    same(tiny)
    filler.unlink()
    same(tiny)

    assert all(line.endswith(b"}\n") for line in tiny.lines())
    assert tiny.lines()


def test_a_disk_that_gets_full(tiny) -> None:
    """A disk that fills up while events are written: the whole lines before it stay whole."""
    done = tiny.run(
        "from telemetry_kit import track_role_event as t\n"
        "made = [t('agent.invoked', agent='x' * 200) for _ in range(2000)]\n"
        "print(sum(record is not None for record in made))"
    )
    whole = [line for line in tiny.lines() if line.endswith(b"}\n")]

    assert (done.returncode, done.stderr) == (0, "")
    assert (0 < int(done.stdout) < 2000, int(done.stdout)) == (True, len(whole))
    assert len(tiny.lines()) - len(whole) <= 1


def test_a_read_only_file_system(tiny) -> None:
    """A project on a file system that is mounted read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(tiny.root)], check=True)
    same(tiny)

    assert list(tiny.root.iterdir()) == []


def test_a_limit_on_the_size_of_files(place) -> None:
    """A process that may not write a byte to any file."""
    same(
        place,
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    )


def test_no_descriptor_left(place) -> None:
    """A process that may not open another file."""
    same(
        place,
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
    )


def test_standard_streams_closed(place) -> None:
    """With descriptors 0 to 2 closed our log never becomes the host's output."""
    done = place.run(
        "import os, sys\n"
        "from telemetry_kit import track_role_event as t\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        "t('role.selected', role='dev')\n"
        "for fd in (1, 2):\n"
        "    try: os.write(fd, b'HOST')\n"
        "    except OSError: pass\n"
        "os._exit(7)\n"
    )

    assert told(done) == (7, "", "")
    assert b"HOST" not in (place.log.read_bytes() if place.log.exists() else b"")


@pytest.mark.parametrize("code", ["os._exit(3)", "os.kill(os.getpid(), 15)", "os.abort()"])
def test_a_violent_end(place, code: str) -> None:
    """However the process ends, what was acknowledged is on file and the status is the host's."""
    body = "import os, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    record = "from telemetry_kit import track_role_event as t\nassert t('role.selected')\n"
    plain, tracked = place.run(body + code), place.run(body + record + code)

    assert told(plain) == told(tracked)
    assert len(place.lines()) == 1


def test_ctrl_c(place) -> None:
    """Ctrl-C inside a tracked call ends the host as it would without us, and is recorded."""
    code = "import os, signal\n{}\n    os.kill(os.getpid(), signal.SIGINT)\n    print('never')\n"
    plain = place.run(code.format("if True:"))
    tracked = place.run(
        "from telemetry_kit import tracks\n" + code.format("with tracks('command.executed'):")
    )

    assert (plain.returncode, plain.stdout) == (tracked.returncode, tracked.stdout)
    assert place.types() == ["command.executed", "command.failed"]
    assert place.events()[-1]["outcome"] == "cancelled"
