"""The app that a command selects if neither `--app` nor the environment names one."""

import pytest

from telemetry_kit import settings
from telemetry_kit.consent import app_choice, cache, changes
from telemetry_kit.errors import ConfigurationError

RUN = ("-m", "telemetry_kit")


def grant(place, app: str, *, all_projects: bool = False) -> None:
    """Grant consent for an app with the real clock."""
    with settings.configure(app=app), cache.override_runtime(place.environ):
        changes.enable_telemetry(place.root, all_projects=all_projects)


def selected_app(place) -> str:
    """Return the app that a command selects in the project."""
    return app_choice.choose(str(place.root), place.environ)


def test_the_default_without_a_decision(undecided) -> None:
    """Without any decision, the command selects the app of the demo."""
    assert "flowspec" == selected_app(undecided)


def test_the_variable_selects_the_app(undecided) -> None:
    """`TELEMETRY_KIT_APP` has the effect of `--app`."""
    undecided.environ["TELEMETRY_KIT_APP"] = " acme "
    grant(undecided, "other")

    assert "acme" == selected_app(undecided)


def test_the_only_app_with_a_decision(undecided) -> None:
    """The only app with a decision for all projects is selected."""
    grant(undecided, "acme", all_projects=True)

    assert "acme" == selected_app(undecided)


@pytest.mark.parametrize(
    "name", ["telemetry.jsonl", "telemetry.toml", "telemetry-2026-11-22.jsonl.gz"]
)
def test_the_only_app_with_files_in_the_project(undecided, name: str) -> None:
    """A log or a settings file in the project has priority over a decision about another app."""
    grant(undecided, "other", all_projects=True)
    (undecided.root / ".acme").mkdir()
    (undecided.root / ".acme" / name).write_text("")

    assert "acme" == selected_app(undecided)


def test_the_only_app_with_a_decision_for_this_project(undecided) -> None:
    """A decision about another app in another project is ignored."""
    grant(undecided, "acme")
    elsewhere = undecided.root.parent / "elsewhere"
    elsewhere.mkdir()
    with settings.configure(app="other"), cache.override_runtime(undecided.environ):
        changes.enable_telemetry(elsewhere)

    assert "acme" == selected_app(undecided)


@pytest.mark.parametrize("all_projects", [False, True])
def test_several_apps_raise_an_error(undecided, all_projects: bool) -> None:
    """If several apps match, the error lists them."""
    for app in ("other", "acme"):
        grant(undecided, app, all_projects=all_projects)
    with pytest.raises(ConfigurationError, match=r"acme, other\. Select one with --app NAME"):
        selected_app(undecided)


@pytest.mark.parametrize(
    "words", [("status",), ("view",), ("clear", "--yes"), ("record", "agent.invoked", "--strict")]
)
def test_several_apps_are_a_usage_error(undecided, words: tuple[str, ...]) -> None:
    """If several apps match, each command exits with 2 and prints one line."""
    for app in ("other", "acme"):
        grant(undecided, app)
    done = undecided.python(*RUN, *words)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "acme, other" in done.stderr


@pytest.mark.parametrize("words", [("schema",), ("status", "--help"), ("demo", "--help")])
def test_some_commands_need_no_app(undecided, words: tuple[str, ...]) -> None:
    """The commands `schema` and `--help` work if several apps match."""
    for app in ("other", "acme"):
        grant(undecided, app)

    assert 0 == undecided.python(*RUN, *words).returncode


def test_record_finds_the_app(undecided) -> None:
    """Without `--app`, `record` writes to the log of the only app with a decision."""
    grant(undecided, "acme")
    done = undecided.python(*RUN, "record", "agent.invoked")

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert 1 == (undecided.root / ".acme/telemetry.jsonl").read_bytes().count(b"\n")


def test_a_program_without_a_name_records_nothing(undecided) -> None:
    """A program without an app name records nothing, also if the default app has consent."""
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
    """`capture_events` works without an app name and adds a note about it."""
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
    """The word `record` as the value of an option does not run that command."""
    (undecided.root / "record").mkdir()
    grant(undecided, "record" if "--app" in words else "flowspec")
    done = undecided.python(*RUN, *words)

    assert (0, True) == (done.returncode, bool(done.stderr))
