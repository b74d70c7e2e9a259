"""`telemetry-kit status` reports whether recording is on and which rule decided."""

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
    """Run `telemetry-kit status` in the project."""
    return place.python("-m", "telemetry_kit", "status", *args, env=env)


def deciding_lines(stdout: str) -> list[str]:
    """Return the lines of the marked rule."""
    return [line for line in stdout.splitlines() if line.startswith("> ")]


@pytest.fixture
def denied(place):
    """Make a project with a denial after a grant."""
    with cache.override_runtime(place.environ):
        disable_telemetry()
    return place


# -- five situations ---------------------------------------------------------------------------


def test_undecided(undecided) -> None:
    """Without a decision, recording is off, and the command creates no file."""
    done = status(undecided, "--explain", "--check")

    assert (done.returncode, done.stderr) == (OFF, "")
    assert done.stdout.startswith("Recording is off: no decision yet.\n")
    (rule,) = deciding_lines(done.stdout)
    assert rule.split()[1:3] == ["user", "silent"]
    assert undecided.tree() == []


def test_granted(place) -> None:
    """Recording is on, and the command prints the grant with its day."""
    done = status(place, "--explain", "--check")

    assert done.returncode == RECORDING
    assert deciding_lines(done.stdout) == [f"> user        grant   {place.record}"]
    raw = done.stdout.partition(f"{place.record}\n")[2].splitlines()[0]
    assert raw == f"{'':22}{place.record.read_text()[:55]}..."
    assert "you granted consent for this project on 20" in done.stdout


def test_denied(denied) -> None:
    """After a denial, recording is off."""
    done = status(denied, "--explain", "--check")

    assert done.returncode == OFF
    assert done.stdout.startswith("Recording is off: you denied consent for this project on 20")
    (rule,) = deciding_lines(done.stdout)
    assert rule.split()[1:3] == ["user", "deny"]


def test_vetoed_by_the_environment(place) -> None:
    """The command prints the variable of a veto with its raw value."""
    done = status(place, "--explain", "--check", DO_NOT_TRACK=" Banana ")

    assert done.returncode == VETOED
    assert done.stdout.startswith("Recording is vetoed: DO_NOT_TRACK is set.\n")
    assert deciding_lines(done.stdout) == ["> environment deny    DO_NOT_TRACK =  Banana "]
    assert "  user        grant" in done.stdout


def test_vetoed_by_the_repository(place) -> None:
    """A committed file can deny. One with `enabled = true` is printed as ignored."""
    app_settings = place.root / ".flowspec" / "telemetry.toml"
    app_settings.parent.mkdir()
    app_settings.write_text("enabled = true\n")
    pyproject = place.root / "pyproject.toml"
    pyproject.write_text("[tool.telemetry_kit]\nenabled = false\n")
    done = status(place, "--explain", "--check")

    assert done.returncode == VETOED
    assert deciding_lines(done.stdout) == [f"> repository  deny    {pyproject}"]
    assert f"{pyproject}\n{'':22}enabled = false\n" in done.stdout
    assert f"  repository  ignored {app_settings}\n{'':22}enabled = true\n" in done.stdout
    assert "a committed file cannot grant consent for other people" in done.stdout


# -- the explanation ---------------------------------------------------------------------------


def test_the_deciding_rule_is_first(place) -> None:
    """The rule that decided is printed first, and each other one follows in its order."""
    done = status(place, "--explain", DO_NOT_TRACK="0")
    environ = {**place.environ, "DO_NOT_TRACK": "0"}
    names, unset = [], 0
    for rule in policy.rules(place.home, environ, every=True):
        if rule.owner == "environment" and rule.raw is None:
            names += [] if unset else ["unset"]
            unset += 1
        else:
            names.append(rule.name)
    names[names.index("unset")] = f"{unset}"
    rows = [line for line in done.stdout.splitlines()[6:-2] if line[2:3].strip()]

    assert [(line[0], line[22:].partition(" ")[0].rstrip(":")) for line in rows] == [
        (">", names.pop()),
        *((" ", name) for name in names),
    ]
    assert done.stdout.endswith("Any denial wins; only you can grant. The rule marked > decided.\n")


def test_json_has_every_rule(place) -> None:
    """`--json` lists each rule in the order of evaluation, also the variables that are not set."""
    found = json.loads(status(place, "--explain", "--json").stdout)["rules"]
    rules = policy.rules(place.home, place.environ, every=True)

    assert [(r["owner"], r["verdict"], r["name"]) for r in found] == [
        (rule.owner, rule.verdict, rule.name) for rule in rules
    ]
    assert len([r for r in found if r["says"] == "not set"]) > 30


def test_control_characters_are_escaped(place) -> None:
    """A control character in the value of a variable is printed escaped."""
    done = status(place, "--explain", DO_NOT_TRACK="\x1b[2J\x07red\nline")

    assert "\x1b" not in done.stdout
    assert "DO_NOT_TRACK = \\x1b[2J\\x07red\\nline" in done.stdout


@pytest.mark.parametrize("value", ["0", ""])
def test_lines_of_a_variable(place, value: str) -> None:
    """A variable that is set has its raw value and a reason."""
    lines = status(place, "--explain", TELEMETRY_KIT_DISABLED=value).stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if "TELEMETRY_KIT_DISABLED" in line)

    assert lines[at : at + 2] == [
        *(f"  environment silent  TELEMETRY_KIT_DISABLED = {value}", f"{'':22}does not deny"),
    ]


def test_variables_that_are_not_set(place) -> None:
    """The variables that are not set take one line together."""
    done = status(place, "--explain")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  environment")]
    rules = policy.environment_rules("FLOWSPEC", place.environ, every=True)

    assert line == (
        f"  environment silent  {len(list(rules))} variables that could deny are not set "
        "(see --json)"
    )


def test_simulate(place) -> None:
    """`--simulate` sets variables for the decision, also several and against the environment."""
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
def test_an_invalid_simulation(place, given: str) -> None:
    """An argument that is not VAR=VALUE is a usage error."""
    done = status(place, "--simulate", given)

    assert (done.returncode, done.stdout) == (2, "")
    assert "write it as VAR=VALUE" in done.stderr


# -- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["20", "200"])
def test_json(place, columns: str) -> None:
    """`--json` prints one JSON object on one line, also in a narrow terminal."""
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
    """Without `--explain`, the JSON has no rules."""
    found = json.loads(status(undecided, "--json").stdout)

    assert "rules" not in found
    assert (found["recording"], found["reason"]) == (False, "no decision yet")


def test_json_after_a_declined_extension(place) -> None:
    """After the user declines a scope extension, the JSON lists the extension and the answer."""
    place.record.write_text(place.record.read_text().replace("keep=90", "keep=30"))
    changes.answer_extension(place.home, policy.decide(place.home, place.environ), is_granted=False)
    found = json.loads(status(place, "--json").stdout)

    assert (found["not_yet"], found["declined"]) == (["stored for 90 days instead of 30"], True)


def test_a_truncated_history(place) -> None:
    """`status`, `doctor` and `verify` report a history that differs from the current record."""
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
    """With `--check`, the exit code is 0, 10, 11 or 12. Without it, the exit code is 0."""
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


def test_a_scope_extension(place) -> None:
    """The command lists the extension, and the granted retention of 30 days applies."""
    place.record.write_text(place.record.read_text().replace("keep=90", "keep=30"))
    sentence = "  not yet  stored for 90 days instead of 30: "

    assert f"{sentence}only after you grant it\n" in status(place).stdout
    assert "  kept     30 days, at most 1.07 GB\n" in status(place).stdout
    assert json.loads(status(place, "--json").stdout)["retention_days"] == 30
    changes.answer_extension(place.home, policy.decide(place.home, place.environ), is_granted=False)
    assert f"{sentence}you have declined it\n" in status(place).stdout


def test_another_app(undecided) -> None:
    """`--app` selects another app, which has its own decision."""
    with cache.override_runtime(undecided.environ), configure(app="acme"):
        enable_telemetry()

    other = undecided.python("-m", "telemetry_kit", "--app", "flowspec", "status", "--check")
    assert other.returncode == OFF
    done = undecided.python("-m", "telemetry_kit", "--app", "acme", "status", "--check")
    assert (done.returncode, "  app      acme" in done.stdout) == (RECORDING, True)


def test_without_a_home_directory(undecided) -> None:
    """Without a home directory, the command reports it and exits with 1."""
    done = status(undecided, HOME="")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("telemetry-kit: there is no home directory to save a decision in\n")


# -- the screens in the docs -------------------------------------------------------------------

MAKE = Path(__file__).parents[2] / "docs" / "design" / "screens" / "make.py"
screens = runpy.run_path(str(MAKE))


@pytest.mark.tty
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="paths of another system")
@pytest.mark.skipif(shutil.which("tmux") is None, reason="the pictures are made by tmux")
@pytest.mark.parametrize("name", screens["SCREENS"])
def test_screens(name: str) -> None:
    """The pages in docs/design/screens match the output. Run make.py if this test fails."""
    assert screens["make"](name) == MAKE.with_name(f"{name}.txt").read_text(encoding="ascii")


def test_the_script_makes_every_screen() -> None:
    """The script makes every page in docs/design/screens."""
    assert {path.stem for path in MAKE.parent.glob("*.txt")} == set(screens["SCREENS"])
