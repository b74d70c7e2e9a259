"""Keys and pseudonyms: a key nobody else has, or no pseudonym at all."""

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
    """The design's formula, written with the standard library."""
    message = (
        field.encode()
        + b"\0"
        + unicodedata.normalize("NFKC", value).encode("utf-8", "surrogatepass")
    )
    return hmac.new(secret, message, "sha256").hexdigest()[:12]


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["role", "agent", "context.k"]), TEXT)
def test_pseudonym_is_the_formula(secret: bytes, field: str, value: str) -> None:
    """A pseudonym is HMAC-SHA-256 of field, zero byte and NFKC value, 12 digits behind `h:`."""
    key = keys.Key(secret, 1)

    assert "h:" + reference(secret, field, value) == key.pseudonym(field, value)
    assert reference(secret, field, value) == key.digits(field, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ﬁle", "file"), ("\uff21da", "Ada"), ("é", "e\u0301"), ("Å", "\u212b"), ("①", "1")],
)
def test_forms_of_one_text_agree(one: str, other: str) -> None:
    """Texts that NFKC makes equal have one pseudonym."""
    key = keys.Key(SECRET, 1)

    assert key.digits("agent", one) == key.digits("agent", other)


def test_fields_are_apart() -> None:
    """The same text in two fields has two pseudonyms, so that they cannot be joined."""
    key = keys.Key(SECRET, 1)
    found = {key.digits(f, "ada") for f in ("role", "agent", "source_agent", "project_id", "")}

    assert len(found) == 5


def test_field_and_value_do_not_run_together() -> None:
    """Moving a letter from field to value changes the pseudonym."""
    key = keys.Key(SECRET, 1)

    assert key.digits("ab", "c") != key.digits("a", "bc")


def test_keys_are_apart() -> None:
    """Another key makes another pseudonym of the same text."""
    other = keys.Key(SECRET[::-1], 1)

    assert keys.Key(SECRET, 1).digits("role", "x") != other.digits("role", "x")


def test_memory_is_bounded() -> None:
    """A key remembers only so many pseudonyms, and makes the others anew."""
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


def test_good_key() -> None:
    """A key file says version, epoch, day and 32 bytes in hex."""
    key = keys.parse(GOOD)

    assert (
        key.epoch,
        key.born,
        key.equals(keys.Key(SECRET, 3)),
    ) == (3, "2024-02-28", True)


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_key_is_refused_and_left(place, data: bytes) -> None:
    """A damaged key file means no event, no unkeyed hash, and the file stays as it is."""
    place.key_file.write_bytes(data)

    assert None is track_role_event("role.selected", role="dev")
    assert (data, []) == (place.key_file.read_bytes(), place.lines())


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o777, 0o601])
def test_key_open_to_others_is_refused_and_left(place, mode: int) -> None:
    """A key that others may read is no secret: refused, and its mode is left alone."""
    data = place.key_file.read_bytes()
    place.key_file.chmod(mode)

    with pytest.raises(KeyUnavailableError, match="open to others"):
        keys.load(str(place.key_file))
    assert None is track_role_event("role.selected", role="dev")
    assert (data, mode) == (place.key_file.read_bytes(), place.key_file.stat().st_mode & 0o777)


@pytest.mark.parametrize("target", ["real", "missing"])
def test_key_behind_a_link_is_refused(place, target: str) -> None:
    """A link in the key's place is not followed, and nothing is made behind it."""
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
def test_strange_key_is_refused(place, kind: str) -> None:
    """A directory or a FIFO in the key's place is refused without waiting."""
    place.key_file.unlink()
    if kind == "fifo":
        os.mkfifo(place.key_file, 0o600)
    else:
        place.key_file.mkdir(0o700)

    assert None is track_role_event("role.selected", role="dev")
    assert place.lines() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_key_of_somebody_else_is_refused(place) -> None:
    """A key that another user owns is not ours to trust."""
    os.chown(place.key_file, 65_534, 65_534)

    assert None is track_role_event("role.selected", role="dev")
    assert (place.key_file.stat().st_uid, place.lines()) == (65_534, [])


def test_a_missing_key_is_made(place) -> None:
    """However it went missing: a fresh random one makes the pseudonyms, never none."""
    before = place.key_file.read_bytes()
    place.key_file.unlink()
    event = track_role_event("role.selected", role="somebody")

    assert event is not None
    assert place.key.pseudonym("role", "somebody") == event["role"]
    assert before != place.key_file.read_bytes()


@pytest.mark.parametrize("data", [b"", b"\0" * 32, b"x" * 31, b"x" * 33], ids=len)
def test_damaged_directory_key_means_off(place, data: bytes) -> None:
    """The key that hides project paths is checked just the same, and left as it is."""
    path = Path(place.home.directory_key)
    path.write_bytes(data)

    assert None is track_role_event("role.selected", role="dev")
    assert (data, []) == (path.read_bytes(), place.lines())


def test_keys_live_outside_the_project(place) -> None:
    """No byte of a key is in the project; key files are 0600 in folders of 0700."""
    track_role_event("role.selected", role="dev", agent="somebody")
    digits = place.key_file.read_bytes().split()[3]
    stored = b"".join(p.read_bytes() for p in place.root.rglob("*") if p.is_file())

    assert digits not in stored
    assert bytes.fromhex(digits.decode()) not in stored
    for path in (place.key_file, Path(place.home.directory_key)):
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_no_path_in_the_users_folders(place) -> None:
    """Names and contents in config and state name no project; the index alone does."""
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


def key_of(place, born: str, epoch: int = 4) -> bytes:
    """Put a key of that day in force."""
    data = f"v1 {epoch} {born} {SECRET.hex()}\n".encode()
    place.key_file.write_bytes(data)
    return data


@pytest.mark.parametrize(
    ("born", "epoch"),
    [("2024-02-28", 4), ("2024-02-01", 4), ("2024-01-31", 5), ("2023-01-01", 5), ("2024-03-09", 4)],
)
def test_rotation(place, born: str, epoch: int) -> None:
    """A key serves 28 days, then a fresh one with the next epoch has replaced it."""
    key_of(place, born)
    record = track_role_event("agent.invoked", agent="somebody")

    assert record is not None
    assert (epoch, epoch) == (record["key_epoch"], place.key.epoch)
    assert (epoch == 4) == (reference(SECRET, "agent", "somebody") == record["agent"][2:])


def test_the_old_key_is_gone(place) -> None:
    """After a rotation the old key is nowhere, and nothing derives the new one from it."""
    key_of(place, "2023-01-01")
    track_role_event("role.selected", role="dev")
    stored = b"".join(p.read_bytes() for p in place.user.rglob("*") if p.is_file())

    assert SECRET.hex().encode() not in stored
    assert (place.key.born, place.key.epoch) == ("2024-02-28", 5)
    assert [p.name for p in place.key_file.parent.iterdir() if p.name not in ("key", "path")] == []


def test_rotation_within_a_running_process(place) -> None:
    """A process that runs over the 28 days uses the new key from its next look on."""
    key_of(place, "2024-02-28", epoch=1)
    first = track_role_event("agent.invoked", agent="somebody")
    place.now.advance(28 * DAY)
    place.clock.advance(1)
    second = track_role_event("agent.invoked", agent="somebody")

    assert first is not None
    assert second is not None
    assert (first["key_epoch"], second["key_epoch"]) == (1, 2)
    assert first["agent"] != second["agent"]
    assert first["project_id"] != second["project_id"]


def test_a_fresh_key_is_kept(place) -> None:
    """`renew_if_old` gives the very key back while it is young."""
    key = place.key

    assert key is keys.renew_if_old(str(place.key_file), key, place.now())


def test_who_does_not_get_the_lock_keeps_the_old_key(place) -> None:
    """While another process rotates, events go on under the old key."""
    import fcntl

    data = key_of(place, "2023-01-01")
    fd = os.open(place.key_file.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        record = track_role_event("role.selected", role="dev")
    finally:
        os.close(fd)

    assert record is not None
    assert (4, data) == (record["key_epoch"], place.key_file.read_bytes())


def test_two_processes_make_one_key(place) -> None:
    """Eight processes that find an old key at once make one new epoch, and no two keys of it."""
    key_of(place, "2023-01-01")
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


def test_an_abandoned_key_is_not_used_after_replacement(place) -> None:
    """A key that another process replaced is noticed at the next look."""
    first = track_role_event("agent.invoked", agent="somebody")
    keys.replace(str(place.key_file), place.now())
    place.clock.advance(1)
    second = track_role_event("agent.invoked", agent="somebody")

    assert first is not None
    assert second is not None
    assert first["key_epoch"] + 1 == second["key_epoch"]


# -- hash_pii ----------------------------------------------------------------------------------


def test_hash_pii_matches_what_is_stored(place) -> None:
    """Where recording is on, it is the pseudonym that stands in events, without `h:`."""
    record = track_role_event("agent.invoked", agent="somebody")

    assert record is not None
    assert record["agent"] == "h:" + hash_pii("somebody", field="agent")
    assert reference(
        bytes.fromhex(place.key_file.read_text().split()[3]), "agent", "somebody"
    ) == hash_pii("somebody", field="agent")


def test_hash_pii_of_another_project(place) -> None:
    """`project_root` chooses the key."""
    other = place.root.parent / "elsewhere"
    other.mkdir()
    here = hash_pii("somebody", field="agent")

    assert here == hash_pii("somebody", field="agent", project_root=place.root)
    assert here != hash_pii("somebody", field="agent", project_root=other)


@pytest.mark.parametrize("value", ["", "ada", "ü", "\ud800", "x" * 100_000, "a\0b"], ids=ascii)
def test_hash_pii_is_twelve_digits(undecided, value: str) -> None:
    """On or off, the answer is 12 lower-case hex digits, the same within a process."""
    found = hash_pii(value, field="agent")

    assert re.fullmatch("[0-9a-f]{12}", found)
    assert found == hash_pii(value, field="agent")


def test_hash_pii_off_is_never_unkeyed(undecided) -> None:
    """Off, each process has a random key of its own: no two agree, and none is a plain hash."""
    import hashlib

    code = "from telemetry_kit import hash_pii; print(hash_pii('ada', field='agent'))"
    found = {undecided.run(code).stdout.strip() for _ in range(3)}
    plain = {hashlib.new(n, b"ada").hexdigest()[:12] for n in ("md5", "sha1", "sha256", "sha512")}
    plain |= {reference(b"", "agent", "ada"), reference(b"\0" * 32, "agent", "ada")}

    assert (3, set()) == (len(found), found & plain)
    assert undecided.tree() == []


def test_hash_pii_with_a_damaged_key_is_not_unkeyed(place) -> None:
    """With a key that cannot be used, the answer is of the process's own random key."""
    place.key_file.write_bytes(b"")
    found = hash_pii("ada", field="agent")

    assert found not in (reference(b"", "agent", "ada"), reference(b"\0" * 32, "agent", "ada"))
    assert place.key_file.read_bytes() == b""


@pytest.mark.parametrize(("value", "field"), [(3, "a"), (None, "a"), (b"x", "a"), ("x", 3)])
def test_hash_pii_takes_strings(undecided, value: object, field: object) -> None:
    """Anything else is a TypeError that says what to give."""
    with pytest.raises(TypeError, match="two strings"):
        hash_pii(value, field=field)  # type: ignore[arg-type]


def test_hash_pii_asks_a_subclass_nothing(place) -> None:
    """A str subclass is hashed by its text; none of its methods runs."""

    class Loud(str):
        __slots__ = ()

        def _never(self, *_: object, **__: object) -> str:
            raise AssertionError("asked")

        __str__ = __repr__ = __format__ = encode = isascii = casefold = strip = _never

    assert hash_pii("ada", field="agent") == hash_pii(Loud("ada"), field=Loud("agent"))


def test_identifiers_of_a_context_are_hashed_by_key(place) -> None:
    """A context identifier is hashed under its own field name."""
    place.configure(context={"task_id": "identifier", "other_id": "identifier"})
    record = track_role_event("agent.invoked", context={"task_id": "T-1", "other_id": "T-1"})

    assert record is not None
    assert {
        "other_id": "h:" + place.key.digits("context.other_id", "T-1"),
        "task_id": "h:" + place.key.digits("context.task_id", "T-1"),
    } == record["context"]


def test_project_id_is_the_pseudonym_of_the_real_path(place) -> None:
    """`project_id` is made from the root's real path, which is itself nowhere."""
    record = track_role_event("role.selected", role="dev")

    assert record is not None
    assert place.key.pseudonym("project_id", str(place.root)) == record["project_id"]
    assert str(place.root).encode() not in place.log.read_bytes()


def test_fork_keeps_the_key(place) -> None:
    """A forked child makes the pseudonyms of its parent."""
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


def test_a_first_use_under_a_yes_for_all_projects_makes_a_key(undecided) -> None:
    """A yes for all projects makes a project's key when its first event comes."""
    from telemetry_kit.consent import changes

    other = undecided.root.parent / "later"
    other.mkdir()
    changes.enable_telemetry(all_projects=True)
    record = track_role_event("agent.invoked", agent="x", project_root=other)

    assert record is not None
    assert (record["key_epoch"], record["agent"].startswith("h:")) == (1, True)


def test_standing_uses_the_pipeline_key(place) -> None:
    """The key in use is loaded once and keeps its memory of pseudonyms."""
    track_role_event("agent.invoked", agent="x")
    first = recorder.recorder_for().key
    place.clock.advance(1)
    track_role_event("agent.invoked", agent="x")

    assert first is recorder.recorder_for().key


def test_fresh_keys_differ() -> None:
    """No two fresh key files are the same, and each can be read."""
    made = {keys.render(1, "2024-02-28") for _ in range(50)}

    assert len(made) == 50
    assert all(keys.parse(data).epoch == 1 for data in made)
