"""Who has the data, a dictionary and time: what can be linked to a person, and what cannot."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import unicodedata

import pytest

import telemetry_kit
from telemetry_kit import configure, track_role_event
from telemetry_kit.consent import changes
from telemetry_kit.privacy import keys
from telemetry_kit.schema import catalog
from telemetry_kit.verification.machine_secrets import Secret, WeakHashes, salts_of

DAY = 86_400
PEOPLE = [f"{first}.{last}" for first in ("ada", "bob", "eve", "kim") for last in "abcdefghijklm"]
FIELDS = ("role", "agent", "command")


def codes(place) -> set[str]:
    """All pseudonyms in the log but the project's."""
    return {
        event[field]
        for event in place.events()
        for field in FIELDS
        if event.get(field, "").startswith("h:")
    }


def guessed_without_key(found: set[str], people: list[str], app: str) -> set[str]:
    """Whom a dictionary attack with every unkeyed and weakly salted hash recovers."""
    secrets = [Secret("user", name) for name in people]
    weak = WeakHashes(secrets, salts_of(app, secrets[:1]))
    made = (weak.owner(code.removeprefix("h:")) for code in found)
    return {secret.text for secret in made if secret is not None}


def guessed_with_key(found: set[str], people: list[str], key: keys.Key) -> set[str]:
    """The same for somebody who has the key."""
    return {p for p in people for f in FIELDS if key.pseudonym(f, p) in found}


def remember(place) -> None:
    """Record everybody."""
    for name in PEOPLE:
        track_role_event("agent.invoked", role=name, agent=name, command=name)


def test_dictionary_attack_recovers_nobody(place) -> None:
    """Without the key, a complete dictionary recovers 0 of 52; with it, all of them."""
    remember(place)
    found = codes(place)

    assert set() == guessed_without_key(found, PEOPLE, "flowspec")
    assert set(PEOPLE) == guessed_with_key(found, PEOPLE, place.key)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha3_256", "blake2b"])
@pytest.mark.parametrize("salt", ["", "flowspec", "role\0", "salt"])
def test_the_harness_recovers_an_unkeyed_hash(algorithm: str, salt: str) -> None:
    """The attack that finds nothing above does find a hash without a key."""
    code = hashlib.new(algorithm, (salt + PEOPLE[7]).encode()).hexdigest()[:12]

    assert {PEOPLE[7]} == guessed_without_key({"h:" + code}, PEOPLE, "flowspec")


def test_another_projects_key_matches_nothing(place, make_place) -> None:
    """The key of another project recovers 0, and the same text in two fields is two codes."""
    remember(place)
    other = make_place("other")
    key = keys.Key(os.urandom(keys.KEY_BYTES), 0)
    event = place.events()[0]

    assert set() == guessed_with_key(codes(place), PEOPLE, key)
    assert 3 == len({event[field] for field in FIELDS})
    assert other.root != place.root


def test_clear_shreds(place, tmp_path) -> None:
    """With a copy of the data and all files that remain after `clear`, an attacker has nobody."""
    remember(place)
    copy = codes(place)
    before = guessed_with_key(copy, PEOPLE, place.key)
    changes.clear(place.home)
    attempts = set()
    for path in (p for top in (place.root, place.user) for p in top.rglob("*") if p.is_file()):
        data = path.read_bytes()
        candidates = {data, data.strip(), *data.split()}
        candidates |= {bytes.fromhex(h.decode()) for h in re.findall(rb"[0-9a-f]{64}", data)}
        for secret in (c for c in candidates if 0 < len(c) <= 64):
            attempts |= guessed_with_key(copy, PEOPLE, keys.Key(secret, 1))

    assert set(PEOPLE) == before
    assert set() == attempts
    assert set() == guessed_without_key(copy, PEOPLE, "flowspec")


def test_after_29_days_there_is_another_key(place) -> None:
    """The old key is gone, and the same person has a new pseudonym in a new epoch."""
    place.now.seconds = __import__("time").time()
    track_role_event("role.selected", role="zora")
    old = place.key_file.read_bytes()
    place.now.advance(29 * DAY)
    place.clock.advance(1)
    track_role_event("role.selected", role="zora")
    first, second = place.events()

    assert first["role"] != second["role"]
    assert (1, 2) == (first["key_epoch"], second["key_epoch"])
    assert old.split()[3] not in b"".join(
        p.read_bytes() for p in place.user.rglob("*") if p.is_file()
    )


@pytest.mark.parametrize(("resolution", "low", "high"), [("day", 0, 20), ("second", 95, 100)])
def test_times_joined_with_a_commit_log(place, resolution: str, low: int, high: int) -> None:
    """Stored times of one of 30 authors single that one out in at most 20 % of cases by the day.

    The attacker has everybody's public commits of 40 days, one of which follows each event
    within two seconds, and asks whose commits fit an event. Assumption: each author commits on
    35 % of days, independently of the others; with fewer committers a day, a day hides less.
    """
    configure(timestamp_resolution=resolution)
    telemetry_kit.enable_telemetry()
    dice = random.Random(30)
    begin = 1_709_078_400
    commits = [
        (begin + day * DAY + dice.randint(9 * 3_600, 18 * 3_600), author)
        for day in range(40)
        for author in range(30)
        if dice.random() < 0.35
        for _ in range(dice.randint(1, 4))
    ]
    step = catalog.RESOLUTIONS[resolution]
    singled = 0
    sample = dice.sample(commits, 200)
    for when, author in sample:
        place.now.seconds = when - dice.random() * 0.5
        place.clock.advance(1)
        told = track_role_event("role.selected", role="dev")
        stored = __import__("calendar").timegm(
            __import__("time").strptime(told["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
        )
        near = {who for at, who in commits if stored <= at < stored + max(step, 2)}
        singled += near == {author}

    assert low <= singled / len(sample) * 100 <= high


def test_keys_never_travel_with_the_project(place, tmp_path) -> None:
    """`git add -A`, an archive of the project and its events hold no byte of any key."""
    remember(place)
    changes.disable_telemetry()
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "init", "-q"], cwd=place.root, check=True, env=place.env)
    subprocess.run([git, "add", "-A"], cwd=place.root, check=True, env=place.env)
    listed = subprocess.run(
        [git, "ls-files"], cwd=place.root, check=True, env=place.env, capture_output=True, text=True
    ).stdout
    packed = shutil.make_archive(str(tmp_path / "all"), "tar", place.root)
    with open(packed, "rb") as file:
        data = file.read()
    secret = place.key_file.read_bytes().split()[3]
    place_key = (place.key_file.parents[2] / "place.key").read_bytes()

    assert not [n for n in listed.split() if "telemetry" in n or "key" in n]
    for key in (secret, bytes.fromhex(secret.decode()), place_key, place_key.hex().encode()):
        assert key not in data


def test_a_record_says_nothing_besides_names(place) -> None:
    """What the chain hands back is what the file holds: no field that the schema does not name."""
    remember(place)
    words = {key for event in place.events() for key in event}

    assert words <= set(catalog.FIELDS)
    assert json.dumps(place.events()).isascii()
    assert unicodedata.is_normalized("NFC", json.dumps(place.events()))
