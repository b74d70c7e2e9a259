"""`telemetry-kit stats --all-projects` counts each project of the index, and all together."""

import json
import shutil

import pytest

from telemetry_kit import (
    configure,
    disable_telemetry,
    enable_telemetry,
    role_session,
    track_role_event,
)
from telemetry_kit.cli import main
from telemetry_kit.consent import cache


@pytest.fixture
def three(place):
    """Three projects of one app: with five events, with one, and without an event."""
    roots = [place.root, *(place.root.parent / name for name in ("second", "third"))]
    with cache.override_runtime(place.environ), configure(commands=["build"]):
        for root in roots[1:]:
            (root / ".git").mkdir(parents=True)
            enable_telemetry(root)
        with role_session("dev"):
            for _ in range(4):
                track_role_event("command.executed", command="build")
        track_role_event("agent.invoked", agent="alice", project_root=roots[1])
        disable_telemetry(roots[1])
        yield roots


def printed(capsys, *words):
    """Run a command, and return its exit code, its output and its messages."""
    capsys.readouterr()
    code = main([*words])
    return (code, *capsys.readouterr())


def counted(capsys, *words):
    """Run `stats --all-projects --json`, and return what it printed."""
    code, out, _ = printed(capsys, "stats", "--all-projects", "--json", *words)
    assert code == 0
    return json.loads(out)


def test_each_project_and_all_together(three, capsys):
    """The total has the counts of each project, and the project's own are those of `stats`."""
    found = counted(capsys)
    events = {one["project"]: one["stats"]["events"] for one in found["projects"]}

    assert found["app"] == "flowspec"
    assert events == dict(zip(map(str, three), (5, 1, 0), strict=True))
    assert found["total"]["events"] == 6
    assert found["total"]["sessions"] == 1
    assert [row["begun"] for row in found["total"]["commands"]] == [4]
    for one in found["projects"]:
        _, out, _ = printed(capsys, "--project", one["project"], "stats", "--json")
        assert json.loads(out) == one["stats"]
        assert one["exists"]


def test_the_table_of_projects(three, capsys, monkeypatch):
    """The project with the most events is first, and the counts of all projects follow."""
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = printed(capsys, "stats", "--all-projects")
    lines = out.splitlines()
    rows = [line.split() for line in lines[2:6]]

    assert (code, err) == (0, "")
    assert lines[0] == "Projects"
    assert [row[0] for row in rows] == [*map(str, three), "total"]
    assert [row[1] for row in rows[:3]] == ["5", "1", "0"]
    assert rows[3][:4] == ["total", "of", "3", "6"]
    assert rows[2][-1] == "-"
    assert "6 events in 1 session" in lines[7]


def test_the_options_count_for_all_projects(three, capsys):
    """A name, a period and `--top` select in each project and in the total."""
    found = counted(capsys, "--agent", "alice", "--top", "1")
    assert [one["stats"]["events"] for one in found["projects"]] == [1, 0, 0]
    assert found["total"]["agent"] == "alice"

    found = counted(capsys, "--until", "2020-01-01")
    assert found["total"]["events"] == 0
    assert {one["last_day"] for one in found["projects"]} == {None}

    code, out, err = printed(capsys, "stats", "--all-projects", "--top", "1")
    assert (code, err) == (0, "")
    assert "and 2 more: --top 3 shows all" in out


def test_an_unknown_name_is_a_mistake(three, capsys):
    """A name that no project has is a usage error. One that a single project has is none."""
    code, out, err = printed(capsys, "stats", "--all-projects", "--command", "bild")
    assert (code, out) == (2, "")
    assert "did you mean 'build'?" in err

    words = ("stats", "--all-projects", "--agent", "alice", "--until", "2020-01-01")
    assert printed(capsys, *words) == (0, "", "no such events: see telemetry-kit stats\n")


def test_a_missing_folder_stops_no_other_project(three, capsys):
    """One sentence names the project whose folder is gone, and the others are counted."""
    shutil.rmtree(three[1])
    code, out, err = printed(capsys, "stats", "--all-projects", "--json")
    found = json.loads(out)

    assert code == 0
    assert err == f"{three[1]}: this folder does not exist any more, so it is left out.\n"
    assert found["total"]["events"] == 5
    assert [one["project"] for one in found["projects"] if not one["exists"]] == [str(three[1])]
    assert str(three[1]) not in printed(capsys, "stats", "--all-projects")[1]


def test_an_unreadable_project_stops_no_other(three, capsys):
    """One sentence names it, the others are counted, and the exit code is 1."""
    folder = three[1] / ".flowspec"
    shutil.rmtree(folder)
    folder.symlink_to(three[0])
    code, out, err = printed(capsys, "stats", "--all-projects", "--json")

    assert code == 1
    assert json.loads(out)["total"]["events"] == 5
    assert json.loads(out)["total"]["incomplete"] == [str(folder)]
    assert f"{folder}: it cannot be opened" in err


def test_user_scope_has_no_projects(place, capsys):
    """In user scope, a sentence says so, and the counts of the one log follow."""
    with configure(app="http", scope="user"), cache.override_runtime(place.environ):
        enable_telemetry()
        track_role_event("role.selected", role="dev")
    code, out, err = printed(capsys, "--app", "http", "stats", "--all-projects", "--json")

    assert (code, err) == (0, "http has one log for all folders, and no projects.\n")
    assert json.loads(out)["projects"] == []
    assert json.loads(out)["total"]["events"] == 1


def test_without_a_project(undecided, capsys):
    """Before the first grant there is no project, and no file is created."""
    code, out, err = printed(capsys, "stats", "--all-projects")

    assert (code, out) == (0, "")
    assert err == "There is no project with events of flowspec yet.\n"
    assert undecided.tree() == []


def test_the_mounted_command(three, capsys):
    """A host that mounts the commands has the option, too."""
    from click.testing import CliRunner

    from telemetry_kit.cli import click_group

    result = CliRunner().invoke(click_group("flowspec"), ["stats", "--all-projects", "--json"])

    assert result.exit_code == 0
    assert json.loads(result.stdout)["total"]["events"] == 6
