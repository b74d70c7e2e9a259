"""The commands print the same for archives in zstd and in gzip."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from telemetry_kit.storage import rotation

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RECORD = """
import telemetry_kit
from telemetry_kit import track_role_event as t
for number in range(20):
    assert t("agent.invoked", role="dev", agent=f"someone-{number % 3}", command="/flow:plan")
"""
COMMANDS = {
    "stats": ("stats", "--json"),
    "answers": ("answers", "--json"),
    "view": ("view", "--json"),
    "export": ("export", "--format", "jsonl"),
    "find": ("find", "someone-1"),
}


@pytest.fixture
def gzip_archive(place) -> Path:
    """Make a project with a gzip archive."""
    assert 0 == place.run(RECORD).returncode
    rotation.seal(place.home, "2026-01-01")
    (sealed,) = place.log.parent.glob("telemetry-*.jsonl")
    data = sealed.read_bytes()
    sealed.unlink()
    archive = Path(f"{sealed}.gz")
    archive.write_bytes(gzip.compress(data))
    archive.chmod(0o600)
    return archive


def as_zstd(archive: Path) -> Path:
    """Replace the archive by one in zstd."""
    other = archive.with_suffix(".zst")
    other.write_bytes(zstd.compress(gzip.decompress(archive.read_bytes())))
    other.chmod(0o600)
    archive.unlink()
    for counted in archive.parent.glob("telemetry-rollup*"):
        counted.unlink()
    return other


def run(place, *args: str, code: str = "") -> tuple[int, str, str]:
    """Run a command in the project."""
    lines = f"import sys\nsys.argv[1:] = {list(args)!r}\n{code}\n"
    done = place.run(lines + "from telemetry_kit.cli import main\nsys.exit(main())")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_reads_the_archive(place, gzip_archive, command: str) -> None:
    """The output is the same as with gzip, and not the same without the archive."""
    expected = run(place, *COMMANDS[command])
    assert 0 == expected[0], expected
    other = as_zstd(gzip_archive)
    found = run(place, *COMMANDS[command])
    other.unlink()

    assert expected == tuple(
        text.replace(".zst", ".gz") if isinstance(text, str) else text for text in found
    )
    assert expected != run(place, *COMMANDS[command])


def test_forget_rewrites_the_archive(place, gzip_archive) -> None:
    """`forget` rewrites the archive with zstd."""
    archive = as_zstd(gzip_archive)
    code, _, errors = run(place, "forget", "someone-1", "--yes")

    assert 0 == code, errors
    assert 13 == zstd.decompress(archive.read_bytes()).count(b"\n")


def test_the_archive_is_verified(place, gzip_archive) -> None:
    """The events of an archive are verified, also if it is given as a file."""
    archive = as_zstd(gzip_archive)
    code, certificate, errors = run(place, "verify", "--json", str(archive))
    files = {f["kind"]: f for f in json.loads(certificate)["files"] if "zst" in f["file"]}

    assert 0 == code, errors
    assert {"archive": 20, "given": 20} == {kind: f["events"] for kind, f in files.items()}


@pytest.mark.parametrize("command", [*COMMANDS, "verify"])
def test_without_zstd(place, gzip_archive, command: str) -> None:
    """Without zstd, the message names the package to install, and the archive is unchanged."""
    archive = as_zstd(gzip_archive)
    content = archive.read_bytes()
    hide = "from telemetry_kit.storage import compression as packing\npacking.READING = ()"
    code, out, errors = run(place, *COMMANDS.get(command, ("verify",)), code=hide)

    assert code in (0, 1)
    assert "backports.zstd" in out + errors
    assert content == archive.read_bytes()


def test_forget_without_zstd(place, gzip_archive) -> None:
    """The exit code is 1, and the message names the archive that may contain the text."""
    archive = as_zstd(gzip_archive)
    hide = "from telemetry_kit.storage import compression as packing\npacking.READING = ()"
    code, _, errors = run(place, "forget", "someone-1", "--yes", code=hide)

    assert 1 == code
    assert f"{archive.name} (it is compressed with zstd" in errors
