"""Attacks with a copy of the data and a dictionary: what they can link to a person."""

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


def pseudonyms(place) -> set[str]:
    """Return all pseudonyms in the log except for the project's."""
    return {
        event[field]
        for event in place.events()
        for field in FIELDS
        if event.get(field, "").startswith("h:")
    }


def recovered_without_key(found: set[str], people: list[str], app: str) -> set[str]:
    """Return the people that a dictionary attack recovers from unkeyed and weakly salted hashes."""
    secrets = [Secret("user", name) for name in people]
    weak = WeakHashes(secrets, salts_of(app, secrets[:1]))
    made = (weak.owner(code.removeprefix("h:")) for code in found)
    return {secret.text for secret in made if secret is not None}


def recovered_with_key(found: set[str], people: list[str], key: keys.Key) -> set[str]:
    """Return the people that a dictionary attack with the key recovers."""
    return {p for p in people for f in FIELDS if key.pseudonym(f, p) in found}


def record_people(place) -> None:
    """Record an event with the name of each person."""
    for name in PEOPLE:
        track_role_event("agent.invoked", role=name, agent=name, command=name)


def test_dictionary_attack_recovers_no_person(place) -> None:
    """A complete dictionary recovers 0 of 52 people without the key, and 52 with it."""
    record_people(place)
    found = pseudonyms(place)

    assert set() == recovered_without_key(found, PEOPLE, "flowspec")
    assert set(PEOPLE) == recovered_with_key(found, PEOPLE, place.key)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha3_256", "blake2b"])
@pytest.mark.parametrize("salt", ["", "flowspec", "role\0", "salt"])
def test_the_harness_recovers_an_unkeyed_hash(algorithm: str, salt: str) -> None:
    """The attack of the test above recovers a name from an unkeyed hash."""
    code = hashlib.new(algorithm, (salt + PEOPLE[7]).encode()).hexdigest()[:12]

    assert {PEOPLE[7]} == recovered_without_key({"h:" + code}, PEOPLE, "flowspec")


def test_another_projects_key_recovers_no_person(place, make_place) -> None:
    """The key of another project recovers 0 people. Each field has its own pseudonym of a text."""
    record_people(place)
    other = make_place("other")
    key = keys.Key(os.urandom(keys.KEY_BYTES), 0)
    event = place.events()[0]

    assert set() == recovered_with_key(pseudonyms(place), PEOPLE, key)
    assert 3 == len({event[field] for field in FIELDS})
    assert other.root != place.root


def test_clear_makes_copied_data_unlinkable(place, tmp_path) -> None:
    """A copy of the data and all files that remain after `clear` identify no person."""
    record_people(place)
    copy = pseudonyms(place)
    before = recovered_with_key(copy, PEOPLE, place.key)
    changes.clear(place.home)
    attempts = set()
    for path in (p for top in (place.root, place.user) for p in top.rglob("*") if p.is_file()):
        data = path.read_bytes()
        candidates = {data, data.strip(), *data.split()}
        candidates |= {bytes.fromhex(h.decode()) for h in re.findall(rb"[0-9a-f]{64}", data)}
        for secret in (c for c in candidates if 0 < len(c) <= 64):
            attempts |= recovered_with_key(copy, PEOPLE, keys.Key(secret, 1))

    assert set(PEOPLE) == before
    assert set() == attempts
    assert set() == recovered_without_key(copy, PEOPLE, "flowspec")


def test_after_29_days_the_key_is_replaced(place) -> None:
    """The old key is deleted, and the same person has a new pseudonym in a new epoch."""
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
    """Times in days identify 1 of 30 authors in at most 20 % of cases, seconds in 95 %.

    The attacker has the public commits of all authors for 40 days. A commit follows each event
    within two seconds. The attacker looks for the authors whose commits match the event.
    Assumption: each author commits on 35 % of days, independently of the others. With fewer
    committers a day, the attacker identifies more authors.
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
        event = track_role_event("role.selected", role="dev")
        stored = __import__("calendar").timegm(
            __import__("time").strptime(event["timestamp"], "%Y-%m-%dT%H:%M:%SZ")
        )
        near = {person for at, person in commits if stored <= at < stored + max(step, 2)}
        singled += near == {author}

    assert low <= singled / len(sample) * 100 <= high


def test_git_and_archives_contain_no_key(place, tmp_path) -> None:
    """`git add -A` stages no key file, and an archive of the project contains no key."""
    record_people(place)
    changes.disable_telemetry()
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "init", "-q"], cwd=place.root, check=True, env=place.env)
    subprocess.run([git, "add", "-A"], cwd=place.root, check=True, env=place.env)
    listed = subprocess.run(
        [git, "ls-files"], cwd=place.root, check=True, env=place.env, capture_output=True, text=True
    ).stdout
    archive = shutil.make_archive(str(tmp_path / "all"), "tar", place.root)
    with open(archive, "rb") as file:
        data = file.read()
    secret = place.key_file.read_bytes().split()[3]
    place_key = (place.key_file.parents[2] / "place.key").read_bytes()

    assert not [n for n in listed.split() if "telemetry" in n or "key" in n]
    for key in (secret, bytes.fromhex(secret.decode()), place_key, place_key.hex().encode()):
        assert key not in data


def test_an_event_has_only_fields_of_the_schema(place) -> None:
    """The events in the log have no field that the schema does not define."""
    record_people(place)
    fields = {key for event in place.events() for key in event}

    assert fields <= set(catalog.FIELDS)
    assert json.dumps(place.events()).isascii()
    assert unicodedata.is_normalized("NFC", json.dumps(place.events()))
