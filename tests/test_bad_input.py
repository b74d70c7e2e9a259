"""Damaged files and missing resources do not change the host program."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

# A host program: it prints, one call fails, and it exits with its own code.
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


def result_of(done: "CompletedProcess[str]") -> tuple[int, str, str]:
    """Return the exit code and the output of a program."""
    return done.returncode, done.stdout, done.stderr


def check_same(place, prepare: str = "", **options: object) -> None:
    """Check that the program has the same exit code and output with and without recording."""
    plain = place.run(PLAIN.replace("{prepare}", prepare), **options)
    tracked = place.run(TRACKED.replace("{prepare}", prepare), **options)

    assert (7, result_of(plain)) == (plain.returncode, result_of(tracked))


def files_outside(place) -> dict[str, bytes]:
    """Return the files outside the project and the home directory, with their contents."""
    found = {}
    for path in sorted(place.root.parent.rglob("*")):
        if place.root not in path.parents and place.user not in path.parents and path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def test_on(place) -> None:
    """While recording is on, the program behaves the same, and its events are in the log."""
    check_same(place)

    inner = ["agent.invoked", "agent.completed"] * 3
    assert [
        *("role.selected", "role.selected", "workflow.started", "command.executed"),
        *inner,
        *("command.completed", "workflow.completed"),
    ] == place.types()


def test_off(undecided) -> None:
    """While recording is off, the program behaves the same, and no file is created."""
    check_same(undecided)

    assert undecided.tree() == []


def test_without_a_home_directory(place) -> None:
    """If HOME is empty, `/` or relative, the program behaves the same and creates no file."""
    before = place.tree()
    for user in ("", "/", "relative"):
        check_same(place, env={"HOME": user})

    assert before == place.tree()


def test_home_not_set(place) -> None:
    """If HOME is not set, the program behaves the same."""
    del place.env["HOME"]
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        # The user who runs the tests has a home directory, which must not be read.
        place.env[name] = str(place.user / "nothing")

    check_same(place)


def test_a_deleted_working_directory(place) -> None:
    """If the working directory is deleted, the program behaves the same."""
    check_same(place, "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')")

    assert not (place.root / "gone").exists()


def create_link(path: Path, target: Path) -> None:
    """Create a link to a file of another user."""
    target.write_bytes(b"theirs\n")
    target.chmod(0o600)
    path.symlink_to(target)


OBSTACLES: dict[str, Callable[[Path, Path], object]] = {
    "link": create_link,
    "dangling link": lambda path, target: path.symlink_to(target),
    "directory": lambda path, _: path.mkdir(),
    "fifo": lambda path, _: os.mkfifo(path, 0o600),
    "device": lambda path, _: path.symlink_to("/dev/full"),
    "open to others": lambda path, _: (path.write_bytes(b"theirs\n"), path.chmod(0o666)),
}


@pytest.mark.parametrize("kind", OBSTACLES)
@pytest.mark.parametrize("name", [".flowspec/telemetry.jsonl", ".flowspec"])
def test_another_file_in_the_way(place, kind: str, name: str) -> None:
    """If another file is in the place of the log or its folder, it is left unchanged."""
    path = place.root / name
    path.parent.mkdir(exist_ok=True)
    OBSTACLES[kind](path, place.root.parent / "outside")
    before, seen = files_outside(place), os.lstat(path)
    check_same(place)
    after = os.lstat(path)

    assert (before, seen.st_ino, seen.st_mode) == (
        files_outside(place),
        after.st_ino,
        after.st_mode,
    )
    if name == ".flowspec/telemetry.jsonl" or not stat.S_ISDIR(seen.st_mode):
        assert (seen.st_size, seen.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_log_of_another_user(place) -> None:
    """If the log belongs to another user, it is left unchanged."""
    place.log.parent.mkdir(exist_ok=True)
    place.log.write_bytes(b"theirs\n")
    place.log.chmod(0o600)
    os.chown(place.log, 65_534, 65_534)
    check_same(place)

    assert place.log.read_bytes() == b"theirs\n"


@pytest.mark.parametrize("what", ["key", "place key", "record", "user file", "repository file"])
@pytest.mark.parametrize("content", [b"", b"\0" * 32, b"\xff" * 10_000, b"[[["], ids=len)
def test_damaged_files(place, what: str, content: bytes) -> None:
    """A damaged key, consent record or configuration turns recording off and is left unchanged."""
    path = {
        "key": place.key_file,
        "place key": Path(place.home.directory_key),
        "record": place.record,
        "user file": Path(place.home.user_file),
        "repository file": place.root / ".flowspec/telemetry.toml",
    }[what]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    check_same(place)

    assert content == path.read_bytes()
    # An empty configuration file sets nothing.
    assert (content == b"" and what.endswith("file")) == bool(place.lines())


def test_an_unwritable_project(unprivileged) -> None:
    """If the project is not writable, the program behaves the same."""
    unprivileged.root.chmod(0o555)
    check_same(unprivileged)

    assert list(unprivileged.root.iterdir()) == []


def test_an_unwritable_home(unprivileged) -> None:
    """If the config and state folders become read-only, events are still recorded."""
    for path in (
        unprivileged.user / ".config",
        unprivileged.user / ".local/state/telemetry-kit/flowspec",
    ):
        for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
            folder.chmod(0o500)
    check_same(unprivileged)

    assert unprivileged.lines()


def test_an_unreadable_home(unprivileged) -> None:
    """If the config folder becomes unreadable, recording is off."""
    (unprivileged.user / ".config/telemetry-kit/flowspec").chmod(0)
    check_same(unprivileged)
    (unprivileged.user / ".config/telemetry-kit/flowspec").chmod(0o700)

    assert list(unprivileged.root.iterdir()) == []


@pytest.fixture
def tiny(place, tmp_path):
    """A project on a file system of 64 kB. The test is skipped if none can be mounted."""
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
    """On a full disk the program behaves the same, and the log has no partial line."""
    filler = tiny.root / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, b"x" * 4096):
            pass
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - the loop ends no other way
    os.close(fd)
    check_same(tiny)
    filler.unlink()
    check_same(tiny)

    assert all(line.endswith(b"}\n") for line in tiny.lines())
    assert tiny.lines()


def test_a_disk_that_fills_up(tiny) -> None:
    """If the disk fills up, the lines written before stay complete."""
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
    """On a read-only file system the program behaves the same."""
    subprocess.run(["mount", "-o", "remount,ro", str(tiny.root)], check=True)
    check_same(tiny)

    assert list(tiny.root.iterdir()) == []


def test_a_limit_on_the_size_of_files(place) -> None:
    """If the process may not write to any file, the program behaves the same."""
    check_same(
        place,
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    )


def test_no_free_descriptor(place) -> None:
    """If the process may not open another file, the program behaves the same."""
    check_same(
        place,
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))",
    )


def test_standard_streams_closed(place) -> None:
    """If descriptors 0 to 2 are closed, the log does not become the host's output."""
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

    assert result_of(done) == (7, "", "")
    assert b"HOST" not in (place.log.read_bytes() if place.log.exists() else b"")


@pytest.mark.parametrize("code", ["os._exit(3)", "os.kill(os.getpid(), 15)", "os.abort()"])
def test_a_killed_process(place, code: str) -> None:
    """If the process is killed, its recorded events are in the log and its status is unchanged."""
    body = "import os, resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    record = "from telemetry_kit import track_role_event as t\nassert t('role.selected')\n"
    plain, tracked = place.run(body + code), place.run(body + record + code)

    assert result_of(plain) == result_of(tracked)
    assert len(place.lines()) == 1


def test_ctrl_c(place) -> None:
    """Ctrl-C in a decorated call ends the host as without recording, and is recorded."""
    code = "import os, signal\n{}\n    os.kill(os.getpid(), signal.SIGINT)\n    print('never')\n"
    plain = place.run(code.format("if True:"))
    tracked = place.run(
        "from telemetry_kit import tracks\n" + code.format("with tracks('command.executed'):")
    )

    assert (plain.returncode, plain.stdout) == (tracked.returncode, tracked.stdout)
    assert place.types() == ["command.executed", "command.failed"]
    assert place.events()[-1]["outcome"] == "cancelled"
