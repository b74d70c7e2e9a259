"""The list of declared names: each line has a MAC, and the list has a maximum size."""

import json
import random
import time
from pathlib import Path

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.privacy import declared_names
from telemetry_kit.privacy.declared_names import DeclaredNames
from telemetry_kit.privacy.hmac_sha256 import Mac
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.schema.encoding import quote


@pytest.fixture
def path(place):
    """The project's list of declared names."""
    return place.key_file.parent / "names"


@pytest.fixture
def open_names(place, path):
    """A function that opens the list in the way the recorder does."""
    return lambda: DeclaredNames(ProjectDirs.of(place.home), quote)


def test_every_line_has_a_mac(place, path, open_names) -> None:
    """A line is kind, name and the HMAC of both, with the key of the state directory."""
    open_names().add("agents", 'say "hi" caf\u00e9')
    kind, name, code = json.loads(path.read_bytes())
    body = path.read_bytes().rpartition(b",")[0]
    key = Path(place.home.directory_key).read_bytes()
    message = b"declared\0" + ProjectDirs.of(place.home).name.encode() + b"\0" + body

    assert ("agents", 'say "hi" caf\u00e9') == (kind, name)
    assert Mac(key).hex(message, 16) == code
    assert {"agents": {name}} == declared_names.read(place.home)


def test_a_name_is_added_once_by_all_processes(path, open_names) -> None:
    """If the list already has a name, a later process does not add it again."""
    for _ in range(3):
        open_names().add("roles", "lead")

    assert 1 == path.read_bytes().count(b"\n")


ALTERED = {
    "no code": lambda line: line.rpartition(b",")[0] + b"]",
    "another name": lambda line: line.replace(b"lead", b"mule"),
    "another kind": lambda line: line.replace(b"roles", b"agents"),
    "another code": lambda line: line[:-18] + b"0" * 16 + line[-2:],
    "shorter code": lambda line: line[:-4] + line[-2:],
    "a space more": lambda line: line.replace(b",", b", ", 1),
    "upper-case code": lambda line: line[:-18] + line[-18:].upper(),
    "two names": lambda line: line.replace(b'"lead"', b'"lead","mule"'),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_a_line_without_a_valid_mac_is_ignored(place, path, open_names, alter) -> None:
    """A line that the recorder did not write declares no name."""
    open_names().add("roles", "lead")
    line = path.read_bytes().rstrip(b"\n")
    assert alter(line) != line
    path.write_bytes(alter(line) + b"\n")

    assert {} == declared_names.read(place.home)


def test_a_name_of_another_project_is_ignored(place, path, open_names) -> None:
    """The MAC includes the project, so a list copied to another project declares no name."""
    other = ProjectDirs.of(place.home, "/another/project")
    Path(other.state).mkdir()
    DeclaredNames(other, quote).add("roles", "lead")
    path.write_bytes(Path(other.names).read_bytes())
    path.chmod(0o600)

    assert {} == declared_names.read(place.home)


def test_verify_rejects_names_added_by_hand(place, path) -> None:
    """If only a forged line declares the name in an event, `verify` fails."""
    track_role_event("role.selected", role="dev")
    place.log.write_bytes(place.lines()[0].replace(b'"dev"', b'"Quillfeather"'))
    path.write_bytes(b'["roles","Quillfeather"]\n["roles","Quillfeather","0123456789abcdef"]\n')
    path.chmod(0o600)
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify", "--json")
    found = json.loads(done.stdout)["findings"]

    assert 1 == done.returncode
    assert {("names", "not written by the recorder"), ("telemetry.jsonl", "not in its domain")} == {
        (f["file"].rpartition("/")[2], f["kind"]) for f in found
    }
    assert 3 == len(found)


@pytest.mark.parametrize("cut", [1, 2, 9, 15, 20, -2, -1])
def test_a_short_write_damages_no_later_name(place, path, open_names, cut) -> None:
    """After a short write, the next name begins a new line."""
    open_names().add("roles", "lead")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1][:cut])
    open_names().add("agents", "worker")
    open_names().add("roles", "lead")

    assert {"agents": {"worker"}, "roles": {"lead"}} == declared_names.read(place.home)
    assert whole[:-1][:cut] == path.read_bytes().splitlines()[0]


def test_an_entry_after_a_fragment_is_read(place, path, open_names) -> None:
    """If another process appends an entry to a fragment, the entry is read."""
    open_names().add("agents", "worker [")
    whole = path.read_bytes()
    path.write_bytes(whole[:11] + whole)

    assert {"agents": {"worker ["}} == declared_names.read(place.home)


def test_verify_counts_a_short_write_as_a_fragment(place, path) -> None:
    """`verify` counts a fragment in the list as torn, and reports no finding."""
    with place.configure(agents=["worker"]):
        track_role_event("agent.invoked", agent="worker")
    path.write_bytes(path.read_bytes() + b'["agents","wor')
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify", "--json")
    names = [f for f in json.loads(done.stdout)["files"] if f["kind"] == "names"]

    assert (0, 1) == (done.returncode, names[0]["torn"])


def test_verify_finds_a_secret_in_a_fragment(place, path) -> None:
    """`verify` reports a secret of this machine that a fragment contains."""
    track_role_event("role.selected", role="dev")
    path.write_bytes(b'["agents","zora.quill@feather.example')
    path.chmod(0o600)
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify", "--json")

    assert 1 == done.returncode
    assert ["recognisers"] == [f["layer"] for f in json.loads(done.stdout)["findings"]]


def test_a_full_list_stays_readable(place, path, open_names, monkeypatch) -> None:
    """If the list is full, further names become pseudonyms, and every command reads the list."""
    monkeypatch.setattr(declared_names, "MAX_BYTES", 4_096)
    names = [f"agent-{n}" for n in range(200)]
    with place.configure(agents=names):
        for name in names:
            assert track_role_event("agent.invoked", agent=name)
    kept = declared_names.read(place.home)["agents"]
    seen = [event["agent"] for event in place.events()]

    assert 0 < len(kept) < 200
    assert path.stat().st_size < 4_096
    assert 200 == len(seen)
    assert kept == {name for name in seen if not name.startswith("h:")}
    with pytest.raises(OSError, match="full"):
        open_names().add("agents", "one-more")
    for command in (["verify"], ["find", "agent-1"], ["stats"], ["export"], ["doctor"]):
        done = place.python("-m", "telemetry_kit", "--app", "flowspec", *command)
        assert 0 == done.returncode, (command, done.stdout, done.stderr)


def test_a_list_at_its_limit_is_read_completely(place, path, open_names) -> None:
    """At the real size limit, every name that was added is read."""
    added = []

    def fill(names: DeclaredNames) -> None:
        for count in range(20_000):
            names.add("agents", f"{count:05d}" + "x" * 100)
            added.append(count)

    with pytest.raises(OSError, match="full"):
        fill(open_names())

    assert 7_000 < len(added) == len(declared_names.read(place.home)["agents"])


def test_adding_names_takes_linear_time(path, open_names) -> None:
    """Processor time grows in proportion to the number of names."""
    dice = random.Random(3)

    def cost(count: int) -> float:
        path.unlink(missing_ok=True)
        declared = open_names()
        names = [f"{dice.getrandbits(64):x}" for _ in range(count)]
        began = time.process_time()
        for name in names:
            declared.add("agents", name)
        return time.process_time() - began

    assert min(cost(4_000) for _ in range(3)) < 6 * min(cost(1_000) for _ in range(3)) + 0.05
