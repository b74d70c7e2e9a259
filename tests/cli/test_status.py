"""`telemetry-kit status`: what decided, in every situation, for people and for machines."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from telemetry_kit import configure, disable_telemetry, enable_telemetry, track_role_event
from telemetry_kit.cli.commands.status import OFF, OUTDATED, RECORDING, VETOED
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.consent import history as consent_history


def status(place, *args: str, **env: str):
    return place.python("-m", "telemetry_kit", "status", *args, env=env)


def deciding(stdout: str) -> list[str]:
    """The lines of the rule that is marked."""
    return [line for line in stdout.splitlines() if line.startswith("> ")]


@pytest.fixture
def denied(place):
    """A project whose user said no after a yes."""
    with cache.override_runtime(place.environ):
        disable_telemetry()
    return place


# -- five situations ---------------------------------------------------------------------------


def test_undecided(undecided) -> None:
    """Off because nothing was decided; looking makes nothing."""
    done = status(undecided, "--explain", "--check")

    assert (done.returncode, done.stderr) == (OFF, "")
    assert done.stdout.startswith("Recording is off: no decision yet.\n")
    (rule,) = deciding(done.stdout)
    assert rule.split()[1:3] == ["user", "silent"]
    assert undecided.tree() == []


def test_granted(place) -> None:
    """On because the user said so, on that day."""
    done = status(place, "--explain", "--check")

    assert done.returncode == RECORDING
    assert deciding(done.stdout) == [f"> user        grant   {place.record}"]
    raw = done.stdout.partition(f"{place.record}\n")[2].splitlines()[0]
    assert raw == f"{'':22}{place.record.read_text()[:55]}..."
    assert "you granted consent for this project on 20" in done.stdout


def test_denied(denied) -> None:
    """Off because the user said no."""
    done = status(denied, "--explain", "--check")

    assert done.returncode == OFF
    assert done.stdout.startswith("Recording is off: you denied consent for this project on 20")
    (rule,) = deciding(done.stdout)
    assert rule.split()[1:3] == ["user", "deny"]


def test_vetoed_by_the_environment(place) -> None:
    """Vetoed by a variable, which is named with its raw value."""
    done = status(place, "--explain", "--check", DO_NOT_TRACK=" Banana ")

    assert done.returncode == VETOED
    assert done.stdout.startswith("Recording is vetoed: DO_NOT_TRACK is set.\n")
    assert deciding(done.stdout) == ["> environment deny    DO_NOT_TRACK =  Banana "]
    assert "  user        grant" in done.stdout


def test_vetoed_by_the_repository(place) -> None:
    """Vetoed by a committed file; one that says true is shown as ignored."""
    ours = place.root / ".flowspec" / "telemetry.toml"
    ours.parent.mkdir()
    ours.write_text("enabled = true\n")
    theirs = place.root / "pyproject.toml"
    theirs.write_text("[tool.telemetry_kit]\nenabled = false\n")
    done = status(place, "--explain", "--check")

    assert done.returncode == VETOED
    assert deciding(done.stdout) == [f"> repository  deny    {theirs}"]
    assert f"{theirs}\n{'':22}enabled = false\n" in done.stdout
    assert f"  repository  ignored {ours}\n{'':22}enabled = true\n" in done.stdout
    assert "a committed file cannot grant consent for other people" in done.stdout


# -- the whole explanation ---------------------------------------------------------------------


def test_every_rule_in_order(place) -> None:
    """Each rule once, in the order in which it is asked, each with what it said."""
    done = status(place, "--explain")
    rules = policy.rules(place.home, place.environ, every=True)
    shown = [line[2:].split()[:3] for line in done.stdout.splitlines()[6:-2] if line[2] != " "]

    assert [(a, b, c.rstrip(":")) for a, b, c in shown] == [
        (rule.owner, rule.verdict, rule.name) for rule in rules
    ]
    assert len(deciding(done.stdout)) == 1
    assert done.stdout.endswith("Any denial wins; only you can grant. The rule marked > decided.\n")


def test_control_characters_never_reach_a_terminal(place) -> None:
    """What a variable or a folder is called is shown escaped."""
    done = status(place, "--explain", DO_NOT_TRACK="\x1b[2J\x07red\nline")

    assert "\x1b" not in done.stdout
    assert "DO_NOT_TRACK = \\x1b[2J\\x07red\\nline" in done.stdout


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ["  environment silent  TELEMETRY_KIT_DISABLED: not set"]),
        ("0", ["  environment silent  TELEMETRY_KIT_DISABLED = 0", f"{'':22}does not deny"]),
        ("", ["  environment silent  TELEMETRY_KIT_DISABLED = ", f"{'':22}does not deny"]),
    ],
    ids=["not set", "harmless", "empty"],
)
def test_what_is_not_there_takes_one_line(place, value: str | None, shown: list[str]) -> None:
    """A variable that is not set is one line; one that is set has its raw value and a sentence."""
    env = {} if value is None else {"TELEMETRY_KIT_DISABLED": value}
    lines = status(place, "--explain", **env).stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if "TELEMETRY_KIT_DISABLED" in line)

    assert [line for line in lines[at : at + 2] if " CI" not in line] == shown
    assert len(lines) < 70


def test_simulate(place) -> None:
    """`--simulate` answers what would be if, several times and also against what is set."""
    done = status(place, "--simulate", "CI=true", "--check")
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        *(VETOED, "Recording is vetoed: running in CI."),
    )
    both = status(place, "--simulate", "CI=false", "--simulate", "GITHUB_ACTIONS=1", "--check")
    assert both.returncode == RECORDING
    lifted = status(place, "--simulate", "DO_NOT_TRACK=0", "--check", DO_NOT_TRACK="1")
    assert lifted.returncode == RECORDING
    assert status(place, "--check").returncode == RECORDING


@pytest.mark.parametrize("given", ["CI", "=1", ""])
def test_simulate_nothing(place, given: str) -> None:
    """What is no VAR=VALUE is a usage error."""
    done = status(place, "--simulate", given)

    assert (done.returncode, done.stdout) == (2, "")
    assert "write it as VAR=VALUE" in done.stderr


# -- for machines ------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["20", "200"])
def test_json(place, columns: str) -> None:
    """`--json` is one JSON object, in a narrow terminal as well."""
    with cache.override_runtime(place.environ):
        track_role_event("role.selected", role="dev")
    done = status(place, "--json", "--explain", COLUMNS=columns)
    found = json.loads(done.stdout)

    assert (done.stderr, done.stdout.count("\n")) == ("", 1)
    assert (found["recording"], found["vetoed"]) == (True, False)
    assert found["decided_by"] == {"owner": "user", "name": str(place.record)}
    assert [rule["name"] for rule in found["rules"] if rule["decided"]] == [str(place.record)]
    assert (found["notice"], found["not_yet"], found["declined"]) == (1, [], False)
    assert (found["app"], found["project"]) == ("flowspec", str(place.root))
    assert found["bytes"] == len(place.log.read_bytes())


def test_json_without_explain(undecided) -> None:
    """The rules are there only where they were asked for."""
    found = json.loads(status(undecided, "--json").stdout)

    assert "rules" not in found
    assert (found["recording"], found["reason"]) == (False, "no decision yet")


def test_json_after_a_declined_widening(place) -> None:
    """A script that needs the difference finds it in the JSON, with the user's answer."""
    place.record.write_text(place.record.read_text().replace("keep=90", "keep=30"))
    changes.answer_extension(place.home, policy.decide(place.home, place.environ), is_granted=False)
    found = json.loads(status(place, "--json").stdout)

    assert (found["not_yet"], found["declined"]) == (["stored for 90 days instead of 30"], True)


def test_a_history_that_was_cut_back(place) -> None:
    """Record and history that differ are trouble, in `status`, `doctor` and `verify`."""
    with cache.override_runtime(place.environ):
        disable_telemetry()
        enable_telemetry()
    history = place.record.with_name(consent_history.HISTORY)
    history.write_bytes(history.read_bytes().splitlines(keepends=True)[0])
    sentence = "for this project, the current record (yes of "

    assert f"  trouble  {sentence}" in status(place).stdout
    assert sentence in json.loads(status(place, "--json").stdout)["trouble"][0]
    doctor = place.python("-m", "telemetry_kit", "doctor")
    assert (doctor.returncode, f"bad    history     {sentence}" in doctor.stdout) == (1, True)
    verify = place.python("-m", "telemetry_kit", "verify")
    assert (verify.returncode, "history is not in order: see doctor" in verify.stdout) == (1, True)


@pytest.mark.parametrize(
    ("situation", "code"),
    [
        *(("undecided", OFF), ("expired", OFF), ("corrupt", OFF), ("no", OFF)),
        *(("user's file", OFF), ("yes", RECORDING), ("declined", RECORDING)),
        *(("variable", VETOED), ("pyproject", VETOED), ("outdated", OUTDATED)),
    ],
)
def test_check(place, situation: str, code: int) -> None:
    """0 recording, 10 off, 11 vetoed, 12 notice outdated; without `--check` always 0."""
    env = {"DO_NOT_TRACK": "1"} if situation == "variable" else {}
    text = place.record.read_text()
    if situation == "undecided":
        place.record.unlink()
    elif situation == "expired":
        place.record.write_text(text.replace("expires=20", "expires=19"))
    elif situation == "corrupt":
        place.record.write_text("yes")
    elif situation == "no":
        place.record.write_text(text.replace(" yes ", " no "))
    elif situation == "pyproject":
        (place.root / "pyproject.toml").write_text("[tool.telemetry_kit]\nenabled = 0\n")
    elif situation == "user's file":
        (place.record.parents[2] / "telemetry.toml").write_text("enabled = false\n")
    elif situation in ("outdated", "declined"):
        place.record.write_text(text.replace("keep=90", "keep=30"))
    if situation == "declined":
        changes.answer_extension(
            place.home, policy.decide(place.home, place.environ), is_granted=False
        )

    assert status(place, "--check", **env).returncode == code
    done = status(place, **env)
    assert (done.returncode, done.stderr) == (0, "")


def test_not_yet(place) -> None:
    """What was not accepted is listed, what was accepted holds: 30 days, not the 90 in force."""
    place.record.write_text(place.record.read_text().replace("keep=90", "keep=30"))
    sentence = "  not yet  stored for 90 days instead of 30: "

    assert f"{sentence}only after you grant it\n" in status(place).stdout
    assert "  kept     30 days, at most 1.07 GB\n" in status(place).stdout
    assert json.loads(status(place, "--json").stdout)["retention_days"] == 30
    changes.answer_extension(place.home, policy.decide(place.home, place.environ), is_granted=False)
    assert f"{sentence}you have declined it\n" in status(place).stdout


def test_another_app(undecided) -> None:
    """`--app` asks about another tool, which has its own decision."""
    with cache.override_runtime(undecided.environ), configure(app="acme"):
        enable_telemetry()

    other = undecided.python("-m", "telemetry_kit", "--app", "flowspec", "status", "--check")
    assert other.returncode == OFF
    done = undecided.python("-m", "telemetry_kit", "--app", "acme", "status", "--check")
    assert (done.returncode, "  app      acme" in done.stdout) == (RECORDING, True)


def test_no_home(undecided) -> None:
    """Without a home directory it says so and ends with 1."""
    done = status(undecided, HOME="")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("telemetry-kit: there is no home directory to save a decision in\n")


# -- the screens in docs -----------------------------------------------------------------------

MAKE = Path(__file__).parents[2] / "docs" / "design" / "screens" / "make.py"
screens = runpy.run_path(str(MAKE))


@pytest.mark.tty
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="paths of another system")
@pytest.mark.skipif(shutil.which("tmux") is None, reason="the pictures are made by tmux")
@pytest.mark.parametrize("name", screens["SCREENS"])
def test_screens(name: str) -> None:
    """What docs/design/screens shows is what the program prints: run make.py when this fails."""
    assert screens["make"](name) == MAKE.with_name(f"{name}.txt").read_text(encoding="ascii")


def test_no_screen_is_left_over() -> None:
    """Every picture is made by the script."""
    assert {path.stem for path in MAKE.parent.glob("*.txt")} == set(screens["SCREENS"])
