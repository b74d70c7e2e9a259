"""Archives of zstd through the commands: what they say is what they say of gzip."""

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
def packed(place) -> Path:
    """A project with an archive, of gzip or of whatever the interpreter writes."""
    assert 0 == place.run(RECORD).returncode
    rotation.seal(place.home, "2026-01-01")
    (sealed,) = place.log.parent.glob("telemetry-*.jsonl")
    data = sealed.read_bytes()
    sealed.unlink()
    archive = Path(f"{sealed}.gz")
    archive.write_bytes(gzip.compress(data))
    archive.chmod(0o600)
    return archive


def repack(archive: Path) -> Path:
    """The same archive of zstd."""
    other = archive.with_suffix(".zst")
    other.write_bytes(zstd.compress(gzip.decompress(archive.read_bytes())))
    other.chmod(0o600)
    archive.unlink()
    for counted in archive.parent.glob("telemetry-rollup*"):
        counted.unlink()
    return other


def run(place, *args: str, code: str = "") -> tuple[int, str, str]:
    lines = f"import sys\nsys.argv[1:] = {list(args)!r}\n{code}\n"
    done = place.run(lines + "from telemetry_kit.cli import main\nsys.exit(main())")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_reads_it(place, packed, command: str) -> None:
    """The same answer as from gzip, and a different one from nothing."""
    expected = run(place, *COMMANDS[command])
    assert 0 == expected[0], expected
    other = repack(packed)
    found = run(place, *COMMANDS[command])
    other.unlink()

    assert expected == tuple(
        text.replace(".zst", ".gz") if isinstance(text, str) else text for text in found
    )
    assert expected != run(place, *COMMANDS[command])


def test_a_part_is_deleted_from_it(place, packed) -> None:
    """Forgetting rewrites it in its own packing."""
    archive = repack(packed)
    code, _, said = run(place, "forget", "someone-1", "--yes")

    assert 0 == code, said
    assert 13 == zstd.decompress(archive.read_bytes()).count(b"\n")


def test_it_is_verified(place, packed) -> None:
    """Its events are examined; as a named file, too."""
    archive = repack(packed)
    code, certificate, said = run(place, "verify", "--json", str(archive))
    files = {f["kind"]: f for f in json.loads(certificate)["files"] if "zst" in f["file"]}

    assert 0 == code, said
    assert {"archive": 20, "given": 20} == {kind: f["events"] for kind, f in files.items()}


@pytest.mark.parametrize("command", [*COMMANDS, "verify"])
def test_without_zstd(place, packed, command: str) -> None:
    """It is named as one that could not be read, with what to do; it stays as it is."""
    archive = repack(packed)
    content = archive.read_bytes()
    hide = "from telemetry_kit.storage import compression as packing\npacking.READING = ()"
    code, out, said = run(place, *COMMANDS.get(command, ("verify",)), code=hide)

    assert code in (0, 1)
    assert "backports.zstd" in out + said
    assert content == archive.read_bytes()


def test_what_is_forgotten_without_zstd(place, packed) -> None:
    """The exit code is 1, and it says which file may still hold it."""
    archive = repack(packed)
    hide = "from telemetry_kit.storage import compression as packing\npacking.READING = ()"
    code, _, said = run(place, "forget", "someone-1", "--yes", code=hide)

    assert 1 == code
    assert f"{archive.name} (it is compressed with zstd" in said
