"""The list of declared names: every line carries a code, and the list has a bounded size."""

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
    """The list of the project."""
    return place.key_file.parent / "names"


@pytest.fixture
def book(place, path):
    """The same, as the recorder opens it."""
    return lambda: DeclaredNames(ProjectDirs.of(place.home), quote)


def test_every_line_carries_a_code(place, path, book) -> None:
    """A line is kind, name and the HMAC of both under the key of the state directory."""
    book().add("agents", 'say "hi" caf\u00e9')
    kind, name, code = json.loads(path.read_bytes())
    body = path.read_bytes().rpartition(b",")[0]
    key = Path(place.home.directory_key).read_bytes()
    message = b"declared\0" + ProjectDirs.of(place.home).name.encode() + b"\0" + body

    assert ("agents", 'say "hi" caf\u00e9') == (kind, name)
    assert Mac(key).hex(message, 16) == code
    assert {"agents": {name}} == declared_names.read(place.home)


def test_a_name_is_noted_once_by_any_process(path, book) -> None:
    """A later process that keeps the same name adds nothing."""
    for _ in range(3):
        book().add("roles", "lead")

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
def test_a_line_without_a_valid_code_counts_for_nothing(place, path, book, alter) -> None:
    """A line that the recorder did not write declares no name, whatever is wrong with it."""
    book().add("roles", "lead")
    line = path.read_bytes().rstrip(b"\n")
    assert alter(line) != line
    path.write_bytes(alter(line) + b"\n")

    assert {} == declared_names.read(place.home)


def test_a_name_of_another_project_counts_for_nothing(place, path, book) -> None:
    """The code ties a name to its project: a copied list declares nothing elsewhere."""
    other = ProjectDirs.of(place.home, "/another/project")
    Path(other.state).mkdir()
    DeclaredNames(other, quote).add("roles", "lead")
    path.write_bytes(Path(other.names).read_bytes())
    path.chmod(0o600)

    assert {} == declared_names.read(place.home)


def test_names_put_there_by_hand_are_no_declaration(place, path) -> None:
    """An event with a name that only a forged line declares fails `verify`."""
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
def test_a_short_write_leaves_a_fragment_that_takes_nothing_along(place, path, book, cut) -> None:
    """After a short write the next name begins a line of its own."""
    book().add("roles", "lead")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1][:cut])
    book().add("agents", "worker")
    book().add("roles", "lead")

    assert {"agents": {"worker"}, "roles": {"lead"}} == declared_names.read(place.home)
    assert whole[:-1][:cut] == path.read_bytes().splitlines()[0]


def test_an_entry_behind_a_fragment_counts(place, path, book) -> None:
    """An entry that another process appended to a fragment is read all the same."""
    book().add("agents", "worker [")
    whole = path.read_bytes()
    path.write_bytes(whole[:11] + whole)

    assert {"agents": {"worker ["}} == declared_names.read(place.home)


def test_verify_counts_a_short_write_as_a_fragment(place, path) -> None:
    """A fragment in the list of names is counted, and is no finding."""
    with place.configure(agents=["worker"]):
        track_role_event("agent.invoked", agent="worker")
    path.write_bytes(path.read_bytes() + b'["agents","wor')
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify", "--json")
    names = [f for f in json.loads(done.stdout)["files"] if f["kind"] == "names"]

    assert (0, 1) == (done.returncode, names[0]["torn"])


def test_verify_finds_a_secret_in_a_fragment(place, path) -> None:
    """A fragment is searched: a secret of this machine in it is a finding."""
    track_role_event("role.selected", role="dev")
    path.write_bytes(b'["agents","zora.quill@feather.example')
    path.chmod(0o600)
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify", "--json")

    assert 1 == done.returncode
    assert ["recognisers"] == [f["layer"] for f in json.loads(done.stdout)["findings"]]


def test_a_full_list_stays_readable(place, path, book, monkeypatch) -> None:
    """Names beyond the size of the list become pseudonyms, and every command still reads it."""
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
        book().add("agents", "one-more")
    for command in (["verify"], ["find", "agent-1"], ["stats"], ["export"], ["doctor"]):
        done = place.python("-m", "telemetry_kit", "--app", "flowspec", *command)
        assert 0 == done.returncode, (command, done.stdout, done.stderr)


def test_a_list_at_its_limit_is_read_whole(place, path, book) -> None:
    """At the real limit all names that were noted are read."""
    noted = []

    def fill(notes: DeclaredNames) -> None:
        for count in range(20_000):
            notes.add("agents", f"{count:05d}" + "x" * 100)
            noted.append(count)

    with pytest.raises(OSError, match="full"):
        fill(book())

    assert 7_000 < len(noted) == len(declared_names.read(place.home)["agents"])


def test_noting_is_linear(path, book) -> None:
    """Twice as many names cost about twice the processor time."""
    dice = random.Random(3)

    def cost(count: int) -> float:
        path.unlink(missing_ok=True)
        notes = book()
        names = [f"{dice.getrandbits(64):x}" for _ in range(count)]
        began = time.process_time()
        for name in names:
            notes.add("agents", name)
        return time.process_time() - began

    assert min(cost(4_000) for _ in range(3)) < 6 * min(cost(1_000) for _ in range(3)) + 0.05
