"""Keys and pseudonyms: every pseudonym is made with a key that only the user can read."""

import hmac
import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import hash_pii, track_role_event
from telemetry_kit.errors import KeyUnavailableError
from telemetry_kit.privacy import keys
from telemetry_kit.recording import recorder

DAY = 86_400
SECRET = bytes(range(32))
TEXT = st.text(st.characters(codec=None, categories=None), max_size=60)


def reference(secret: bytes, field: str, value: str) -> str:
    """Compute the digits of a pseudonym with the standard library."""
    message = (
        field.encode()
        + b"\0"
        + unicodedata.normalize("NFKC", value).encode("utf-8", "surrogatepass")
    )
    return hmac.new(secret, message, "sha256").hexdigest()[:12]


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["role", "agent", "context.k"]), TEXT)
def test_a_pseudonym_is_an_hmac(secret: bytes, field: str, value: str) -> None:
    """A pseudonym is `h:` and 12 digits of the HMAC-SHA-256 of field, zero byte and NFKC value."""
    key = keys.Key(secret, 1)

    assert "h:" + reference(secret, field, value) == key.pseudonym(field, value)
    assert reference(secret, field, value) == key.digits(field, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ﬁle", "file"), ("\uff21da", "Ada"), ("é", "e\u0301"), ("Å", "\u212b"), ("①", "1")],
)
def test_equivalent_texts_have_one_pseudonym(one: str, other: str) -> None:
    """Texts with the same NFKC form have the same pseudonym."""
    key = keys.Key(SECRET, 1)

    assert key.digits("agent", one) == key.digits("agent", other)


def test_each_field_has_its_own_pseudonym() -> None:
    """The same text in two fields has two pseudonyms, so an attacker cannot join them."""
    key = keys.Key(SECRET, 1)
    found = {key.digits(f, "ada") for f in ("role", "agent", "source_agent", "project_id", "")}

    assert len(found) == 5


def test_field_and_value_are_separated() -> None:
    """If a letter moves from the field to the value, the pseudonym changes."""
    key = keys.Key(SECRET, 1)

    assert key.digits("ab", "c") != key.digits("a", "bc")


def test_each_key_has_its_own_pseudonym() -> None:
    """Two keys make two pseudonyms of the same text."""
    other = keys.Key(SECRET[::-1], 1)

    assert keys.Key(SECRET, 1).digits("role", "x") != other.digits("role", "x")


def test_the_cache_of_pseudonyms_is_bounded() -> None:
    """A key caches at most 1,024 pseudonyms, and computes the others again."""
    key = keys.Key(SECRET, 1)
    first = [key.digits("agent", f"a{n}") for n in range(3_000)]

    assert first == [key.digits("agent", f"a{n}") for n in range(3_000)]
    assert len(key._known) <= 1_024


# -- key files ---------------------------------------------------------------------------------

GOOD = b"v1 3 2024-02-28 " + SECRET.hex().encode() + b"\n"
DAMAGED = {
    "empty": b"",
    "short": b"v1 1 2024-02-28 " + b"ab" * 31 + b"\n",
    "long": b"v1 1 2024-02-28 " + b"ab" * 33 + b"\n",
    "zero": b"v1 1 2024-02-28 " + b"00" * 32 + b"\n",
    "no hex": b"v1 1 2024-02-28 " + b"zz" * 32 + b"\n",
    "raw": SECRET,
    "version": b"v2 1 2024-02-28 " + b"ab" * 32 + b"\n",
    "epoch zero": b"v1 0 2024-02-28 " + b"ab" * 32 + b"\n",
    "epoch negative": b"v1 -1 2024-02-28 " + b"ab" * 32 + b"\n",
    "epoch word": b"v1 one 2024-02-28 " + b"ab" * 32 + b"\n",
    "words": GOOD[:-1] + b" more\n",
    "not ascii": b"v1 1 2024-02-28 " + "é".encode() * 32 + b"\n",
    "10 kB": GOOD + b"\n" * 10_000,
    "day": b"v1 1 yesterday " + b"ab" * 32 + b"\n",
}


def test_a_valid_key_file() -> None:
    """A key file contains version, epoch, day and 32 bytes in hex."""
    key = keys.parse(GOOD)

    assert (
        key.epoch,
        key.born,
        key.equals(keys.Key(SECRET, 3)),
    ) == (3, "2024-02-28", True)


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_key_is_rejected_and_unchanged(place, data: bytes) -> None:
    """If the key file is damaged, no event is recorded, and the file does not change."""
    place.key_file.write_bytes(data)

    assert None is track_role_event("role.selected", role="dev")
    assert (data, []) == (place.key_file.read_bytes(), place.lines())


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o777, 0o601])
def test_a_key_open_to_others_is_rejected_and_unchanged(place, mode: int) -> None:
    """If other users may access the key, it is rejected, and file and mode do not change."""
    data = place.key_file.read_bytes()
    place.key_file.chmod(mode)

    with pytest.raises(KeyUnavailableError, match="open to others"):
        keys.load(str(place.key_file))
    assert None is track_role_event("role.selected", role="dev")
    assert (data, mode) == (place.key_file.read_bytes(), place.key_file.stat().st_mode & 0o777)


@pytest.mark.parametrize("target", ["real", "missing"])
def test_a_symbolic_link_is_no_key(place, target: str) -> None:
    """The recorder does not follow a link at the key's path, and does not create its target."""
    real = place.user / target
    if target == "real":
        real.write_bytes(place.key_file.read_bytes())
        real.chmod(0o600)
    place.key_file.unlink()
    place.key_file.symlink_to(real)

    assert None is track_role_event("role.selected", role="dev")
    assert (target == "real", True) == (real.exists(), place.key_file.is_symlink())
    assert place.lines() == []


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_a_directory_or_fifo_is_no_key(place, kind: str) -> None:
    """A directory or a FIFO at the key's path is rejected without waiting."""
    place.key_file.unlink()
    if kind == "fifo":
        os.mkfifo(place.key_file, 0o600)
    else:
        place.key_file.mkdir(0o700)

    assert None is track_role_event("role.selected", role="dev")
    assert place.lines() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_of_another_user_is_rejected(place) -> None:
    """If another user owns the key, no event is recorded."""
    os.chown(place.key_file, 65_534, 65_534)

    assert None is track_role_event("role.selected", role="dev")
    assert (place.key_file.stat().st_uid, place.lines()) == (65_534, [])


def test_a_missing_key_is_replaced(place) -> None:
    """If the key is missing, the recorder creates a random one before it makes a pseudonym."""
    before = place.key_file.read_bytes()
    place.key_file.unlink()
    event = track_role_event("role.selected", role="somebody")

    assert event is not None
    assert place.key.pseudonym("role", "somebody") == event["role"]
    assert before != place.key_file.read_bytes()


@pytest.mark.parametrize("data", [b"", b"\0" * 32, b"x" * 31, b"x" * 33], ids=len)
def test_a_damaged_directory_key_stops_recording(place, data: bytes) -> None:
    """If the key of project paths is damaged, no event is recorded, and it does not change."""
    path = Path(place.home.directory_key)
    path.write_bytes(data)

    assert None is track_role_event("role.selected", role="dev")
    assert (data, []) == (path.read_bytes(), place.lines())


def test_keys_are_outside_the_project(place) -> None:
    """The project contains no key. Key files have mode 0600, in directories of mode 0700."""
    track_role_event("role.selected", role="dev", agent="somebody")
    digits = place.key_file.read_bytes().split()[3]
    stored = b"".join(p.read_bytes() for p in place.root.rglob("*") if p.is_file())

    assert digits not in stored
    assert bytes.fromhex(digits.decode()) not in stored
    for path in (place.key_file, Path(place.home.directory_key)):
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_only_the_index_contains_a_project_path(place) -> None:
    """In the user's directories, only the index of projects contains a project's path."""
    track_role_event("role.selected", role="dev")
    names = [str(p.relative_to(place.user)) for p in place.user.rglob("*")]
    files = [p for p in place.user.rglob("*") if p.is_file()]
    index = [p for p in files if p.name == "path"]
    contents = b"".join(p.read_bytes() for p in files if p not in index)
    assert [(str(place.root), 0o600)] == [(p.read_text(), p.stat().st_mode & 0o777) for p in index]

    assert not [n for n in names if place.root.name in n]
    assert str(place.root).encode() not in contents


def test_keys_of_two_projects_differ(place) -> None:
    """The same name in two projects of one user has two pseudonyms."""
    from telemetry_kit.consent import changes

    other = place.root.parent / "other"
    other.mkdir()
    changes.enable_telemetry(other)
    one = track_role_event("agent.invoked", agent="somebody")
    two = track_role_event("agent.invoked", agent="somebody", project_root=other)

    assert one is not None
    assert two is not None
    assert one["agent"] != two["agent"]
    assert one["project_id"] != two["project_id"]


# -- rotation ----------------------------------------------------------------------------------


def write_key(place, born: str, epoch: int = 4) -> bytes:
    """Replace the key with one that was made on the day `born`."""
    data = f"v1 {epoch} {born} {SECRET.hex()}\n".encode()
    place.key_file.write_bytes(data)
    return data


@pytest.mark.parametrize(
    ("born", "epoch"),
    [("2024-02-28", 4), ("2024-02-01", 4), ("2024-01-31", 5), ("2023-01-01", 5), ("2024-03-09", 4)],
)
def test_the_key_is_replaced_after_28_days(place, born: str, epoch: int) -> None:
    """After 28 days, a new key with the next epoch replaces the old one."""
    write_key(place, born)
    record = track_role_event("agent.invoked", agent="somebody")

    assert record is not None
    assert (epoch, epoch) == (record["key_epoch"], place.key.epoch)
    assert (epoch == 4) == (reference(SECRET, "agent", "somebody") == record["agent"][2:])


def test_rotation_deletes_the_old_key(place) -> None:
    """After a rotation, no file contains the old key."""
    write_key(place, "2023-01-01")
    track_role_event("role.selected", role="dev")
    stored = b"".join(p.read_bytes() for p in place.user.rglob("*") if p.is_file())

    assert SECRET.hex().encode() not in stored
    assert (place.key.born, place.key.epoch) == ("2024-02-28", 5)
    assert [p.name for p in place.key_file.parent.iterdir() if p.name not in ("key", "path")] == []


def test_rotation_within_a_running_process(place) -> None:
    """A process that runs longer than 28 days uses the new key after its next check."""
    write_key(place, "2024-02-28", epoch=1)
    first = track_role_event("agent.invoked", agent="somebody")
    place.now.advance(28 * DAY)
    place.clock.advance(1)
    second = track_role_event("agent.invoked", agent="somebody")

    assert first is not None
    assert second is not None
    assert (first["key_epoch"], second["key_epoch"]) == (1, 2)
    assert first["agent"] != second["agent"]
    assert first["project_id"] != second["project_id"]


def test_a_recent_key_is_kept(place) -> None:
    """`renew_if_old()` returns the same key while it is younger than 28 days."""
    key = place.key

    assert key is keys.renew_if_old(str(place.key_file), key, place.now())


def test_without_the_lock_a_process_uses_the_old_key(place) -> None:
    """While another process has the lock for rotation, events use the old key."""
    import fcntl

    data = write_key(place, "2023-01-01")
    fd = os.open(place.key_file.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        record = track_role_event("role.selected", role="dev")
    finally:
        os.close(fd)

    assert record is not None
    assert (4, data) == (record["key_epoch"], place.key_file.read_bytes())


def test_several_processes_make_one_key(place) -> None:
    """If eight processes find an old key at the same time, they make one new key."""
    write_key(place, "2023-01-01")
    code = (
        "import sys\nfrom telemetry_kit import track_role_event\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "r = track_role_event('agent.invoked', agent='somebody')\n"
        "print(r['key_epoch'], r['agent'])"
    )
    children = [place.start(code) for _ in range(8)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate(timeout=30) for child in children]

    assert {""} == {err for _, err in answers}
    made = {tuple(out.split()) for out, _ in answers}
    by_epoch = dict(made)
    assert len(by_epoch) == len(made)
    assert set(by_epoch) <= {"4", "5"}
    assert place.key.epoch == 5


def test_a_process_notices_a_replaced_key(place) -> None:
    """If another process replaces the key, the recorder uses the new key after its next check."""
    first = track_role_event("agent.invoked", agent="somebody")
    keys.replace(str(place.key_file), place.now())
    place.clock.advance(1)
    second = track_role_event("agent.invoked", agent="somebody")

    assert first is not None
    assert second is not None
    assert first["key_epoch"] + 1 == second["key_epoch"]


# -- hash_pii ----------------------------------------------------------------------------------


def test_hash_pii_matches_the_stored_pseudonym(place) -> None:
    """While recording is on, it returns the pseudonym in the events, without `h:`."""
    record = track_role_event("agent.invoked", agent="somebody")

    assert record is not None
    assert record["agent"] == "h:" + hash_pii("somebody", field="agent")
    assert reference(
        bytes.fromhex(place.key_file.read_text().split()[3]), "agent", "somebody"
    ) == hash_pii("somebody", field="agent")


def test_hash_pii_of_another_project(place) -> None:
    """`project_root` selects the key."""
    other = place.root.parent / "elsewhere"
    other.mkdir()
    here = hash_pii("somebody", field="agent")

    assert here == hash_pii("somebody", field="agent", project_root=place.root)
    assert here != hash_pii("somebody", field="agent", project_root=other)


@pytest.mark.parametrize("value", ["", "ada", "ü", "\ud800", "x" * 100_000, "a\0b"], ids=ascii)
def test_hash_pii_is_twelve_digits(undecided, value: str) -> None:
    """The result is 12 lower-case hex digits, and each call in a process returns the same."""
    found = hash_pii(value, field="agent")

    assert re.fullmatch("[0-9a-f]{12}", found)
    assert found == hash_pii(value, field="agent")


def test_hash_pii_off_is_never_unkeyed(undecided) -> None:
    """While recording is off, each process uses its own random key, and never a plain hash."""
    import hashlib

    code = "from telemetry_kit import hash_pii; print(hash_pii('ada', field='agent'))"
    found = {undecided.run(code).stdout.strip() for _ in range(3)}
    plain = {hashlib.new(n, b"ada").hexdigest()[:12] for n in ("md5", "sha1", "sha256", "sha512")}
    plain |= {reference(b"", "agent", "ada"), reference(b"\0" * 32, "agent", "ada")}

    assert (3, set()) == (len(found), found & plain)
    assert undecided.tree() == []


def test_hash_pii_with_a_damaged_key_is_not_unkeyed(place) -> None:
    """If the key is damaged, `hash_pii()` does not hash without a key."""
    place.key_file.write_bytes(b"")
    found = hash_pii("ada", field="agent")

    assert found not in (reference(b"", "agent", "ada"), reference(b"\0" * 32, "agent", "ada"))
    assert place.key_file.read_bytes() == b""


@pytest.mark.parametrize(("value", "field"), [(3, "a"), (None, "a"), (b"x", "a"), ("x", 3)])
def test_hash_pii_takes_strings(undecided, value: object, field: object) -> None:
    """Any other type raises a TypeError that names the expected types."""
    with pytest.raises(TypeError, match="two strings"):
        hash_pii(value, field=field)  # type: ignore[arg-type]


def test_hash_pii_calls_no_method_of_a_subclass(place) -> None:
    """`hash_pii()` hashes the text of a `str` subclass, and runs none of its methods."""

    class Overridden(str):
        __slots__ = ()

        def _never(self, *_: object, **__: object) -> str:
            raise AssertionError("called")

        __str__ = __repr__ = __format__ = encode = isascii = casefold = strip = _never

    assert hash_pii("ada", field="agent") == hash_pii(Overridden("ada"), field=Overridden("agent"))


def test_context_identifiers_are_hashed_by_field(place) -> None:
    """The pseudonym of a context identifier includes the name of its field."""
    place.configure(context={"task_id": "identifier", "other_id": "identifier"})
    record = track_role_event("agent.invoked", context={"task_id": "T-1", "other_id": "T-1"})

    assert record is not None
    assert {
        "other_id": "h:" + place.key.digits("context.other_id", "T-1"),
        "task_id": "h:" + place.key.digits("context.task_id", "T-1"),
    } == record["context"]


def test_project_id_is_the_pseudonym_of_the_real_path(place) -> None:
    """`project_id` is the pseudonym of the root's real path. The log does not contain the path."""
    record = track_role_event("role.selected", role="dev")

    assert record is not None
    assert place.key.pseudonym("project_id", str(place.root)) == record["project_id"]
    assert str(place.root).encode() not in place.log.read_bytes()


def test_fork_keeps_the_key(place) -> None:
    """A forked child makes the same pseudonyms as its parent."""
    done = place.run(
        "import os\nfrom telemetry_kit import track_role_event as t\n"
        "first = t('agent.invoked', agent='x')['agent']\n"
        "pid = os.fork()\n"
        "second = t('agent.invoked', agent='x')['agent']\n"
        "assert first == second\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len({event["agent"] for event in place.events()}) == 1


def test_a_grant_for_all_projects_makes_a_key_at_first_use(undecided) -> None:
    """If all projects have consent, a project's first event creates its key."""
    from telemetry_kit.consent import changes

    other = undecided.root.parent / "later"
    other.mkdir()
    changes.enable_telemetry(all_projects=True)
    record = track_role_event("agent.invoked", agent="x", project_root=other)

    assert record is not None
    assert (record["key_epoch"], record["agent"].startswith("h:")) == (1, True)


def test_the_recorder_keeps_its_key(place) -> None:
    """The recorder loads its key once, so the cache of pseudonyms is kept."""
    track_role_event("agent.invoked", agent="x")
    first = recorder.recorder_for().key
    place.clock.advance(1)
    track_role_event("agent.invoked", agent="x")

    assert first is recorder.recorder_for().key


def test_new_keys_differ() -> None:
    """No two new key files are the same, and each can be read."""
    made = {keys.render(1, "2024-02-28") for _ in range(50)}

    assert len(made) == 50
    assert all(keys.parse(data).epoch == 1 for data in made)
