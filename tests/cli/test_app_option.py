"""Which app a command is about where nobody names one."""

import pytest

from telemetry_kit import settings
from telemetry_kit.consent import app_choice, cache, changes
from telemetry_kit.errors import ConfigurationError

RUN = ("-m", "telemetry_kit")


def grant(place, app: str, *, all_projects: bool = False) -> None:
    """Consent for an app, by the real clock."""
    with settings.configure(app=app), cache.override_runtime(place.environ):
        changes.enable_telemetry(place.root, all_projects=all_projects)


def chosen(place) -> str:
    """The app that fits in the project."""
    return app_choice.choose(str(place.root), place.environ)


def test_without_any_decision_it_is_the_default(undecided) -> None:
    """A new user of the command line gets the name that the demo uses."""
    assert "flowspec" == chosen(undecided)


def test_the_variable_names_it(undecided) -> None:
    """`TELEMETRY_KIT_APP` stands for `--app`."""
    undecided.environ["TELEMETRY_KIT_APP"] = " acme "
    grant(undecided, "other")

    assert "acme" == chosen(undecided)


def test_the_one_app_that_was_decided_about(undecided) -> None:
    """Whether here or for all projects."""
    grant(undecided, "acme", all_projects=True)

    assert "acme" == chosen(undecided)


@pytest.mark.parametrize(
    "name", ["telemetry.jsonl", "telemetry.toml", "telemetry-2026-11-22.jsonl.gz"]
)
def test_the_one_app_that_keeps_something_here(undecided, name: str) -> None:
    """A log or settings in this project weigh more than a decision about another app."""
    grant(undecided, "other", all_projects=True)
    (undecided.root / ".acme").mkdir()
    (undecided.root / ".acme" / name).write_text("")

    assert "acme" == chosen(undecided)


def test_the_one_app_with_a_decision_for_this_project(undecided) -> None:
    """Another app that was decided about elsewhere does not come into question."""
    grant(undecided, "acme")
    elsewhere = undecided.root.parent / "elsewhere"
    elsewhere.mkdir()
    with settings.configure(app="other"), cache.override_runtime(undecided.environ):
        changes.enable_telemetry(elsewhere)

    assert "acme" == chosen(undecided)


@pytest.mark.parametrize("all_projects", [False, True])
def test_several_are_listed(undecided, all_projects: bool) -> None:
    """Nothing is guessed."""
    for app in ("other", "acme"):
        grant(undecided, app, all_projects=all_projects)
    with pytest.raises(ConfigurationError, match=r"acme, other\. Select one with --app NAME"):
        chosen(undecided)


@pytest.mark.parametrize(
    "words", [("status",), ("view",), ("clear", "--yes"), ("record", "agent.invoked", "--strict")]
)
def test_several_are_a_usage_error(undecided, words: tuple[str, ...]) -> None:
    """Every command says so with exit code 2, in one line, and does nothing."""
    for app in ("other", "acme"):
        grant(undecided, app)
    done = undecided.python(*RUN, *words)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "acme, other" in done.stderr


@pytest.mark.parametrize("words", [("schema",), ("status", "--help"), ("demo", "--help")])
def test_some_commands_are_about_no_app(undecided, words: tuple[str, ...]) -> None:
    """They need no name."""
    for app in ("other", "acme"):
        grant(undecided, app)

    assert 0 == undecided.python(*RUN, *words).returncode


def test_record_finds_the_app(undecided) -> None:
    """A script that names none records for the one that fits."""
    grant(undecided, "acme")
    done = undecided.python(*RUN, "record", "agent.invoked")

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert 1 == (undecided.root / ".acme/telemetry.jsonl").read_bytes().count(b"\n")


def test_a_program_without_a_name_records_nothing(undecided) -> None:
    """Two programs that both forget it share no consent, whatever was decided."""
    grant(undecided, "flowspec", all_projects=True)
    code = (
        "from telemetry_kit import *\n"
        "@tracks(RoleEvent.AGENT_INVOKED)\n"
        "def work(): return 1\n"
        "with role_session('dev'): assert work() == 1\n"
        "assert track_role_event('agent.invoked') is None\n"
        "assert not is_telemetry_enabled() and not ask_consent()\n"
        "get_logger().info('agent.invoked')\n"
        "assert child_environment() == {} and len(hash_pii('a', field='role')) == 12\n"
        "try: enable_telemetry()\n"
        "except Exception as error: print(error)\n"
    )
    done = undecided.run(code, named=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert "configure(app=" in done.stdout
    assert not any("jsonl" in path for path in undecided.tree() if "history" not in path)


def test_captured_events_need_no_name(undecided) -> None:
    """A test of a program works all the same."""
    code = (
        "from telemetry_kit import *\n"
        "with capture_events() as captured: track_role_event('agent.invoked')\n"
        "print(len(captured.events), captured.notes)\n"
    )
    done = undecided.run(code, named=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("1 [")
    assert "configure(app=" in done.stdout


@pytest.mark.parametrize(
    "words", [("--project", "record", "off"), ("--app", "record", "clear", "--yes")]
)
def test_the_value_of_an_option_is_no_command(undecided, words: tuple[str, ...]) -> None:
    """`record` as the value of an option is a name; the command behind it is carried out."""
    (undecided.root / "record").mkdir()
    grant(undecided, "record" if "--app" in words else "flowspec")
    done = undecided.python(*RUN, *words)

    assert (0, True) == (done.returncode, bool(done.stderr))
