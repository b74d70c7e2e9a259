"""The cache of consent decisions: each is valid for 20 ms, or until the environment changes."""

import errno
import os
from collections.abc import Callable

import pytest

from telemetry_kit import configure, is_telemetry_enabled, settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache, changes, policy, prompt
from telemetry_kit.errors import ConsentError, Refused


def test_the_decision_with_a_grant(place) -> None:
    """A cached decision has the project's paths, the decision, and the time when it expires."""
    place.clock.advance(5.0)
    found = cache.lookup(str(place.root))

    assert (found.paths.root, found.paths.app) == (str(place.root), "flowspec")
    assert (found.allowed, found.decision.allowed, found.decision.rule.owner) == (
        True,
        True,
        "user",
    )
    assert found.recorder is None
    assert found.fresh_until == 5.02
    assert found.settings_generation == settings.generation()


def test_the_decision_without_a_grant(undecided) -> None:
    """Without a grant, recording is off."""
    found = cache.lookup()

    assert (found.allowed, found.decision.allowed) == (False, False)
    rule = found.decision.rule
    assert (rule.owner, rule.says) == ("user", "no decision yet")
    assert found.paths.root == str(undecided.root)


def test_the_rule_of_a_denial_in_this_process(place) -> None:
    """Its rule belongs to the user, covers every project, and explains why it is not saved."""
    cache.deny_in_process()
    found = cache.lookup().decision
    rule = found.rule

    assert (found.allowed, found.grant, found.vetoed) == (False, None, False)
    assert (rule.owner, rule.name, rule.raw) == ("user", "this process", None)
    assert (rule.verdict, rule.everywhere) == (policy.DENY, True)
    assert rule.says == "you denied consent in this run, and the denial could not be saved"


def test_a_decision_is_cached_for_20_ms(place) -> None:
    """Within 20 ms, `lookup()` returns the same object, with or without a directory argument."""
    for start in (None, str(place.root)):
        first = cache.lookup(start)
        place.clock.advance(0.019)

        assert first is cache.lookup(start)
        place.clock.advance(0.001)
        assert first is not cache.lookup(start)


@pytest.mark.parametrize(
    "name", ["DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", "FLOWSPEC_TELEMETRY_DISABLED", "CI"]
)
def test_a_changed_switch_is_noticed(place, name: str) -> None:
    """Every event compares the values of all switches, even if no variable was added."""
    place.environ[name] = "0"
    assert cache.lookup().allowed
    place.environ[name] = "1"

    assert not cache.lookup().allowed


def test_a_variable_that_is_added_or_removed(place) -> None:
    """If any variable is added or removed, the decision is made again at once."""
    first = cache.lookup()
    place.environ["SOMETHING"] = "1"
    second = cache.lookup()
    del place.environ["SOMETHING"]

    assert first is not second
    assert second is not cache.lookup()


def test_a_change_of_settings_is_noticed(place) -> None:
    """A cached decision is valid only for the settings that it was made with."""
    first = cache.lookup()
    with configure(retention_days=30):
        inside = cache.lookup()

        assert inside is not first
        assert inside is cache.lookup()
    assert inside is not cache.lookup()


def test_each_app_and_directory_has_its_own_decision(place) -> None:
    """The cache has one decision for each app and directory."""
    (place.root / ".git").mkdir()
    (place.root / "sub").mkdir()
    mine, below = cache.lookup(), cache.lookup(str(place.root / "sub"))
    with configure(app="acme"):
        other = cache.lookup()

        assert (other.paths.app, other.allowed) == ("acme", False)
        place.environ["ACME_TELEMETRY_DISABLED"] = "1"
        assert "ACME_TELEMETRY_DISABLED is set" == cache.lookup().decision.rule.says
    assert mine is not below
    assert mine.paths.root == below.paths.root


def test_a_change_of_the_working_directory_is_noticed(place, make_place, monkeypatch) -> None:
    """Every event reads the working directory."""
    elsewhere = make_place("elsewhere")
    assert str(place.root) == cache.lookup().paths.root
    monkeypatch.chdir(elsewhere.root)

    assert str(elsewhere.root) == cache.lookup().paths.root


def test_a_deleted_working_directory(place, monkeypatch, tmp_path) -> None:
    """If the working directory was deleted, there is no decision, and no event is recorded."""
    directory = tmp_path / "gone"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    with pytest.raises(Refused, match="no longer exists"):
        cache.lookup()

    assert not cache.is_allowed()
    assert cache.is_allowed(str(place.root))


def test_the_cache_is_bounded(place) -> None:
    """The cache has at most 64 decisions, even if a program changes directories often."""
    count = []
    for number in range(150):
        folder = place.root / str(number)
        folder.mkdir()
        cache.lookup(str(folder))
        count.append(len(cache._decisions))

    assert [1, 64, 1] == [count[0], max(count), count[64]]


@pytest.mark.parametrize(
    ("deny", "is_off"),
    [
        (lambda place: place.environ.update(DO_NOT_TRACK="1"), True),
        (lambda place: place.environ.update(CI="1"), True),
        (lambda place: (place.root / ".flowspec").mkdir(), None),
        (
            lambda place: (place.root / "pyproject.toml").write_text(
                "[tool.telemetry_kit]\nenabled = false\n"
            ),
            False,
        ),
        (lambda place: place.record.write_bytes(b"v1 no 2024-02-28\n"), False),
    ],
    ids=["switch", "ci", "nothing", "repository", "record"],
)
def test_what_sets_off_until(place, deny: Callable[..., object], is_off: bool | None) -> None:
    """Only a denial for every project sets `off_until`, so a change of directory is noticed."""
    place.clock.advance(1.0)
    deny(place)
    cache.invalidate()

    assert (is_off is None) == cache.is_allowed()
    assert runtime.off_until == (1.02 if is_off else 0.0)


def test_invalidation(place) -> None:
    """After a decision in this process, each decision is made again."""
    first = cache.lookup()
    runtime.off_until = 99.0
    cache.invalidate()

    assert runtime.off_until == 0.0
    assert first is not cache.lookup()


def test_a_runtime_is_overridden_and_restored(place) -> None:
    """The block uses its environment and clocks. Its end restores the former ones."""
    before, first = (runtime.environ, runtime.clock, runtime.now, runtime.random), cache.lookup()
    environ = {**place.environ, "DO_NOT_TRACK": "1"}
    with cache.override_runtime(environ):
        assert runtime.environ is environ
        assert runtime.clock is not place.clock
        assert not is_telemetry_enabled()
    assert before == (runtime.environ, runtime.clock, runtime.now, runtime.random)
    assert first is not cache.lookup()
    assert is_telemetry_enabled()


def test_captured_events_need_no_consent(undecided, monkeypatch) -> None:
    """While events are captured in memory, they are allowed whatever the decision is."""
    assert not cache.is_allowed()
    monkeypatch.setattr(runtime, "captured", 1)

    assert cache.is_allowed()


@pytest.mark.parametrize("start", ["\0", 3, b"\xff", object()], ids=["nul", "3", "bytes", "object"])
def test_an_invalid_directory_is_not_allowed(place, start: object) -> None:
    """For an invalid directory, `is_allowed()` raises nothing, and returns False."""
    assert False is cache.is_allowed(start)  # type: ignore[arg-type]


def test_a_change_of_os_environ_is_noticed(place, monkeypatch) -> None:
    """A changed variable of the real `os.environ` is noticed like one of any other mapping."""
    monkeypatch.setenv("TELEMETRY_KIT_DISABLED", "0")
    with cache.override_runtime(os.environ):
        switches = cache.Switches(os.environ, "FLOWSPEC")
        before = switches.are_unchanged()
        monkeypatch.setenv("TELEMETRY_KIT_DISABLED", "1")
        after = switches.are_unchanged()

    assert (True, False) == (before, after)
    assert b"1" in switches.values()


def test_an_unsaved_denial_stops_this_process(place) -> None:
    """If a denial cannot be saved, this process still stops recording."""
    folder = place.user / ".config"
    assert cache.is_allowed()
    moved = folder.rename(place.user / "moved")
    folder.write_text("")
    with pytest.raises(ConsentError):
        changes.disable_telemetry()
    folder.unlink()
    moved.rename(folder)

    assert not cache.is_allowed()
    assert cache.lookup().decision.rule.says.startswith("you denied consent in this run")
    assert not prompt.ask_consent()


@pytest.mark.parametrize("call", ["open", "read", "close", "listdir"])
def test_a_failed_check_does_not_turn_recording_off(place, monkeypatch, call: str) -> None:
    """If a system call fails, `is_off()` raises nothing and returns False."""
    real = getattr(os, call)

    def fails(*args: object, **more: object) -> object:
        if call == "close":
            real(*args)
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, call, fails)
    is_off = runtime.is_off()
    monkeypatch.undo()

    assert not is_off
