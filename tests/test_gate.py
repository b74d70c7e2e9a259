"""The gate: the answer of consent, for 20 ms, and no longer than what it was made under."""

import errno
import os
from collections.abc import Callable

import pytest

from telemetry_kit import configure, is_telemetry_enabled, settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache, changes, policy, prompt
from telemetry_kit.errors import ConsentError, Refused


def test_what_it_found(place) -> None:
    """The place, consent's answer, and how long it may be believed."""
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


def test_what_it_found_where_it_is_off(undecided) -> None:
    """The same where nobody has said yes."""
    found = cache.lookup()

    assert (found.allowed, found.decision.allowed) == (False, False)
    rule = found.decision.rule
    assert (rule.owner, rule.says) == ("user", "no decision yet")
    assert found.paths.root == str(undecided.root)


def test_a_no_that_holds_in_this_process(place) -> None:
    """It is the user's, it denies everywhere, and it says why no record shows it."""
    cache.deny_in_process()
    found = cache.lookup().decision
    rule = found.rule

    assert (found.allowed, found.grant, found.vetoed) == (False, None, False)
    assert (rule.owner, rule.name, rule.raw) == ("user", "this process", None)
    assert (rule.verdict, rule.everywhere) == (policy.DENY, True)
    assert rule.says == "you denied consent in this run, and the denial could not be saved"


def test_the_answer_is_kept_for_20_ms(place) -> None:
    """The very same verdict until then, for a directory as for the working directory."""
    for start in (None, str(place.root)):
        first = cache.lookup(start)
        place.clock.advance(0.019)

        assert first is cache.lookup(start)
        place.clock.advance(0.001)
        assert first is not cache.lookup(start)


@pytest.mark.parametrize(
    "name", ["DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", "FLOWSPEC_TELEMETRY_DISABLED", "CI"]
)
def test_a_switch_that_changes_its_value(place, name: str) -> None:
    """Each of the four is looked at for every event, also when the number of variables stays."""
    place.environ[name] = "0"
    assert cache.lookup().allowed
    place.environ[name] = "1"

    assert not cache.lookup().allowed


def test_a_variable_that_comes_or_goes(place) -> None:
    """Any variable: it is then asked again at once."""
    first = cache.lookup()
    place.environ["SOMETHING"] = "1"
    second = cache.lookup()
    del place.environ["SOMETHING"]

    assert first is not second
    assert second is not cache.lookup()


def test_settings_that_change(place) -> None:
    """A verdict holds for the settings it was made under."""
    first = cache.lookup()
    with configure(retention_days=30):
        inside = cache.lookup()

        assert inside is not first
        assert inside is cache.lookup()
    assert inside is not cache.lookup()


def test_each_app_and_place_has_its_own(place) -> None:
    """What holds for one app in one directory says nothing of the others."""
    (place.root / ".git").mkdir()
    (place.root / "sub").mkdir()
    mine, below = cache.lookup(), cache.lookup(str(place.root / "sub"))
    with configure(app="acme"):
        other = cache.lookup()

        assert (other.home.app, other.allowed) == ("acme", False)
        place.environ["ACME_TELEMETRY_DISABLED"] = "1"
        assert "ACME_TELEMETRY_DISABLED is set" == cache.lookup().decision.rule.says
    assert mine is not below
    assert mine.paths.root == below.paths.root


def test_a_working_directory_that_changes(place, make_place, monkeypatch) -> None:
    """It is looked up for every event."""
    elsewhere = make_place("elsewhere")
    assert str(place.root) == cache.lookup().paths.root
    monkeypatch.chdir(elsewhere.root)

    assert str(elsewhere.root) == cache.lookup().paths.root


def test_a_working_directory_that_is_gone(place, monkeypatch, tmp_path) -> None:
    """There is no verdict, and no event."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(Refused, match="no longer exists"):
        cache.lookup()

    assert not cache.is_open()
    assert cache.is_open(str(place.root))


def test_not_everything_is_kept(place) -> None:
    """A program that goes from directory to directory keeps 64 answers at most."""
    count = []
    for number in range(150):
        folder = place.root / str(number)
        folder.mkdir()
        cache.lookup(str(folder))
        count.append(len(cache._decisions))

    assert [1, 64, 1] == [count[0], max(count), count[64]]


@pytest.mark.parametrize(
    ("denying", "shut"),
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
def test_what_shuts_the_latch(place, denying: Callable[..., object], shut: bool | None) -> None:
    """Only a denial that holds for every project, and for 20 ms: a change of place is seen."""
    place.clock.advance(1.0)
    denying(place)
    cache.invalidate()

    assert (shut is None) == cache.is_open()
    assert runtime.off_until == (1.02 if shut else 0.0)


def test_forgetting(place) -> None:
    """After a decision in this process everything is asked anew."""
    first = cache.lookup()
    runtime.off_until = 99.0
    cache.invalidate()

    assert runtime.off_until == 0.0
    assert first is not cache.lookup()


def test_a_runtime_is_overridden_and_restored(place) -> None:
    """Inside, its environment and clocks count; outside, those from before, and nothing is kept."""
    before, first = (runtime.environ, runtime.clock, runtime.now, runtime.random), cache.lookup()
    environ = {**place.environ, "DO_NOT_TRACK": "1"}
    with cache.override_runtime(environ):
        assert runtime.environ is environ
        assert runtime.clock is not place.clock
        assert not is_telemetry_enabled()
    assert before == (runtime.environ, runtime.clock, runtime.now, runtime.random)
    assert first is not cache.lookup()
    assert is_telemetry_enabled()


def test_while_events_are_captured_it_is_open(undecided, monkeypatch) -> None:
    """They go into memory, whatever consent says."""
    assert not cache.is_open()
    monkeypatch.setattr(runtime, "captured", 1)

    assert cache.is_open()


@pytest.mark.parametrize("start", ["\0", 3, b"\xff", object()], ids=["nul", "3", "bytes", "object"])
def test_a_place_that_is_none(place, start: object) -> None:
    """It never raises: there is no recording there."""
    assert False is cache.is_open(start)  # type: ignore[arg-type]


def test_the_table_behind_the_environment(place, monkeypatch) -> None:
    """A switch set in the real `os.environ` is seen like one in any other mapping."""
    monkeypatch.setenv("TELEMETRY_KIT_DISABLED", "0")
    with cache.override_runtime(os.environ):
        switches = cache.Switches(os.environ, "FLOWSPEC")
        before = switches.are_unchanged()
        monkeypatch.setenv("TELEMETRY_KIT_DISABLED", "1")
        after = switches.are_unchanged()

    assert (True, False) == (before, after)
    assert b"1" in switches.values()


def test_a_no_that_is_held(place) -> None:
    """A no that could not be written down holds for the rest of this process."""
    folder = place.user / ".config"
    assert cache.is_open()
    kept = folder.rename(place.user / "moved")
    folder.write_text("")
    with pytest.raises(ConsentError):
        changes.disable_telemetry()
    folder.unlink()
    kept.rename(folder)

    assert not cache.is_open()
    assert cache.lookup().decision.rule.says.startswith("you denied consent in this run")
    assert not prompt.ask_consent()


@pytest.mark.parametrize("call", ["open", "read", "close", "listdir"])
def test_a_look_that_fails_is_no_answer(place, monkeypatch, call: str) -> None:
    """Whatever the system refuses: a closer look decides, and nothing is raised."""
    real = getattr(os, call)

    def fails(*args: object, **more: object) -> object:
        if call == "close":
            real(*args)
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, call, fails)
    shut = runtime.is_off()
    monkeypatch.undo()

    assert not shut
