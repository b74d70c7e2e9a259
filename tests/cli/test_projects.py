"""`telemetry-kit projects` lists the projects of the index."""

import json
import shutil
from datetime import UTC, datetime

from telemetry_kit import configure, disable_telemetry, enable_telemetry, track_role_event
from telemetry_kit.consent import cache


def listed(place, *words: str) -> dict:
    """Return what `projects --json` prints."""
    done = place.python("-m", "telemetry_kit", *words, "projects", "--json")
    assert ("", 0) == (done.stderr, done.returncode)
    found: dict = json.loads(done.stdout)
    return found


def test_every_project_is_listed(place) -> None:
    """Each project has its folder, its size, its last day, and whether it records."""
    track_role_event("agent.invoked")
    other = place.root.parent / "other"
    (other / ".git").mkdir(parents=True)
    with cache.override_runtime(place.environ):
        enable_telemetry(other)
        track_role_event("agent.invoked", project_root=other)
        disable_telemetry(other)
    found = {one["project"]: one for one in listed(place)["projects"]}

    assert {str(place.root), str(other)} == set(found)
    assert [True, False] == [found[str(root)]["recording"] for root in (place.root, other)]
    assert place.log.stat().st_size == found[str(place.root)]["bytes"]
    assert found[str(place.root)]["last_event"] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert 0 < found[str(other)]["bytes"]


def test_a_project_that_was_deleted_is_missing(place) -> None:
    """A deleted project stays in the list, so that `reset --all-projects` removes its key."""
    other = place.root.parent / "other"
    (other / ".git").mkdir(parents=True)
    with cache.override_runtime(place.environ):
        enable_telemetry(other)
    shutil.rmtree(other)
    done = place.python("-m", "telemetry_kit", "projects")

    (line,) = [line for line in done.stdout.splitlines() if str(other) in line]
    assert "missing" in line


def test_user_scope_is_one_project(place) -> None:
    """In user scope, the list has the one log of the user."""
    with configure(app="http", scope="user"), cache.override_runtime(place.environ):
        enable_telemetry(place.root)
        track_role_event("role.selected")
        log = place.home.log
    (found,) = listed(place, "--app", "http")["projects"]

    assert (1, True) == (found["files"], found["recording"])
    assert log.startswith(found["project"])


def test_a_denial_in_user_scope(undecided) -> None:
    """The user of a tool without projects can deny before anything is recorded, and after that."""
    code = (
        "import sys, telemetry_kit\n"
        "from telemetry_kit.cli import main\n"
        "telemetry_kit.configure(app='http', scope='user')\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for words, exit_code in (
        (["off"], 0),
        (["status", "--check"], 10),
        (["on", "--yes"], 0),
        (["status", "--check"], 0),
        (["off"], 0),
        (["status", "--check"], 10),
    ):
        done = undecided.run(code, *words, named=False)

        assert (exit_code, words) == (done.returncode, words), done.stderr


def test_no_project_yet(undecided) -> None:
    """Before the first grant, one sentence says that there is no project."""
    done = undecided.python("-m", "telemetry_kit", "projects")

    assert ("", 0) == (done.stdout, done.returncode)
    assert "no project with events of flowspec yet" in done.stderr
