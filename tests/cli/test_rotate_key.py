"""`telemetry-kit rotate-key` replaces the key and deletes the old one."""

from telemetry_kit import track_role_event


def test_new_key_and_epoch(place) -> None:
    """The key is new, its epoch is one higher, and the same name has another pseudonym."""
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


def test_without_a_terminal(place) -> None:
    """Without a terminal and without `--yes`, the exit code is 2 and the key is unchanged."""
    before = place.key_file.read_bytes()
    done = place.python("-m", "telemetry_kit", "rotate-key")

    assert (2, before) == (done.returncode, place.key_file.read_bytes())


def test_without_a_decision(undecided) -> None:
    """Without a decision, no key exists and none is created."""
    done = undecided.python("-m", "telemetry_kit", "rotate-key", "--yes")

    assert (0, []) == (done.returncode, undecided.tree())


def test_a_damaged_key(place) -> None:
    """A damaged key is unchanged, and the message names `clear` as the repair."""
    place.key_file.write_bytes(b"zora")
    done = place.python("-m", "telemetry_kit", "rotate-key", "--yes")

    assert (1, b"zora") == (done.returncode, place.key_file.read_bytes())
