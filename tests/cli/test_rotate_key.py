"""`telemetry-kit rotate-key`: a fresh key, and the old one gone."""

from telemetry_kit import track_role_event


def test_fresh_key_and_epoch(place) -> None:
    """The key is another, its epoch one more, and the same name has another pseudonym."""
    track_role_event("role.selected", role="zora")
    old = place.key
    done = place.python("-m", "telemetry_kit", "rotate-key", "--yes")
    place.clock.advance(1)
    track_role_event("role.selected", role="zora")
    first, second = place.events()

    assert (0, 1, 2) == (done.returncode, old.epoch, place.key.epoch)
    assert first["role"] != second["role"]
    assert (1, 2) == (first["key_epoch"], second["key_epoch"])
    assert ["key"] == [p.name for p in place.key_file.parent.iterdir() if "key" in p.name]


def test_without_a_terminal_it_stays(place) -> None:
    """Nobody can be asked: exit code 2, and the key is as it was."""
    before = place.key_file.read_bytes()
    done = place.python("-m", "telemetry_kit", "rotate-key")

    assert (2, before) == (done.returncode, place.key_file.read_bytes())


def test_no_key_no_harm(undecided) -> None:
    """Where nothing was decided there is no key to replace, and none is made."""
    done = undecided.python("-m", "telemetry_kit", "rotate-key", "--yes")

    assert (0, []) == (done.returncode, undecided.tree())


def test_damaged_key_is_left(place) -> None:
    """A key that cannot be used is left as it is: `clear` is what makes a new one."""
    place.key_file.write_bytes(b"zora")
    done = place.python("-m", "telemetry_kit", "rotate-key", "--yes")

    assert (1, b"zora") == (done.returncode, place.key_file.read_bytes())
