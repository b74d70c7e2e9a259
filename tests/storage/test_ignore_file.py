"""Events and keys stay out of version control, as git itself sees it."""

import os
from pathlib import Path

import pytest

from telemetry_kit.consent import cache, changes
from telemetry_kit.errors import ConsentError, Refused
from telemetry_kit.paths import find
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.recording import recorder
from telemetry_kit.storage import ignore_file
from tests.test_worktrees import LAYOUTS, git, made

EVENT = "telemetry_kit.track_role_event('agent.invoked')"


def grant(place, folder: Path, **more: bool) -> None:
    """Consent for a project, by the real clock."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(folder, **more)


def record(place, folder: Path) -> None:
    """One event, from a process of its own."""
    done = place.run(EVENT, cwd=folder)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def events(place, folder: Path) -> int:
    """How many events a project has."""
    log = Path(find("flowspec", str(folder), place.environ).log)
    return log.read_bytes().count(b"\n") if log.exists() else 0


def staged(folder: Path) -> list[str]:
    """What `git add -A` takes of a folder of ours, in any repository there is."""
    git(folder, "add", "-A")
    listed = git(folder, "ls-files").splitlines()
    return [name for name in listed if "telemetry" in name and "telemetry.toml" not in name]


@pytest.fixture
def repository(undecided) -> Path:
    """An empty repository whose user was never asked."""
    git(undecided.root, "init", "-q")
    return undecided.root


def nothing(folder: Path) -> None:
    """The host has no folder of its own."""


def a_file(folder: Path) -> None:
    """The host keeps a file there."""
    (folder / ".flowspec").mkdir()
    (folder / ".flowspec/memory.md").write_text("of the host")


def an_ignore_file(folder: Path) -> None:
    """The host ignores some files of its own."""
    a_file(folder)
    (folder / ".flowspec/.gitignore").write_text("*.cache\n")


def an_empty_ignore_file(folder: Path) -> None:
    """The host has an empty ignore file beside its own files."""
    a_file(folder)
    (folder / ".flowspec/.gitignore").write_text("")


def a_linked_ignore_file(folder: Path) -> None:
    """The ignore file is a symbolic link, which git does not follow."""
    a_file(folder)
    (folder / "rules").write_text("*\n")
    (folder / ".flowspec/.gitignore").symlink_to(folder / "rules")


def a_hard_link(folder: Path) -> None:
    """The ignore file has a second name elsewhere."""
    (folder / ".flowspec").mkdir()
    (folder / "other").write_text("")
    os.link(folder / "other", folder / ".flowspec/.gitignore")


def a_folder(folder: Path) -> None:
    """A folder has the name of the ignore file."""
    a_file(folder)
    (folder / ".flowspec/.gitignore").mkdir()


def settings_alone(folder: Path) -> None:
    """The project has committed its settings for us."""
    (folder / ".flowspec").mkdir()
    (folder / ".flowspec/telemetry.toml").write_text('roles = ["dba"]\n')


HOSTS = [
    nothing,
    a_file,
    an_ignore_file,
    an_empty_ignore_file,
    a_linked_ignore_file,
    a_hard_link,
    a_folder,
    settings_alone,
]


@pytest.mark.parametrize("all_projects", [False, True])
@pytest.mark.parametrize("host", HOSTS)
def test_git_takes_nothing_of_ours(undecided, repository, host, all_projects: bool) -> None:
    """Whatever the host keeps in the folder: recorded, and never staged."""
    host(repository)
    before = git(repository, "status", "--porcelain", "--untracked-files=all")
    grant(undecided, repository, all_projects=all_projects)
    record(undecided, repository)

    assert 1 == events(undecided, repository)
    assert before == git(repository, "status", "--porcelain", "--untracked-files=all")
    assert [] == staged(repository)


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_of_the_host_is_changed(undecided, repository, host) -> None:
    """Its files stay as they are, to the byte and the mode."""
    host(repository)

    def seen() -> dict[str, tuple[int, bytes]]:
        files = [p for p in repository.rglob("*") if ".git" not in p.relative_to(repository).parts]
        files = [p for p in files if p.is_file() and not p.name.startswith(("telemetry.j", ".tel"))]
        return {str(p): (p.stat().st_mode, p.read_bytes()) for p in files}

    before = seen()
    grant(undecided, repository)
    record(undecided, repository)
    after = seen()

    assert before == {name: after[name] for name in before}
    assert {str(repository / ".flowspec/.gitignore")} >= set(after) - set(before)


@pytest.mark.parametrize("host", [nothing, a_file])
def test_an_ignore_file_that_is_deleted_later(undecided, repository, host) -> None:
    """The lines in the repository's own exclude file hold on."""
    host(repository)
    grant(undecided, repository)
    record(undecided, repository)
    (repository / ".flowspec/.gitignore").unlink(missing_ok=True)
    assert [] == staged(repository)
    record(undecided, repository)

    assert 2 == events(undecided, repository)
    assert [] == staged(repository)


def test_lines_that_are_deleted_later(undecided, repository) -> None:
    """In a folder of the host nothing is written until a command has put them back."""
    a_file(repository)
    grant(undecided, repository)
    record(undecided, repository)
    exclude = repository / ".git/info/exclude"
    exclude.write_text("")
    record(undecided, repository)
    assert 1 == events(undecided, repository)
    shown = undecided.python("-m", "telemetry_kit", "--app", "flowspec", "view")
    assert shown.returncode == 0
    record(undecided, repository)

    assert 2 == events(undecided, repository)
    assert [] == staged(repository)


@pytest.mark.parametrize(
    ("path", "rule"),
    [(".flowspec/.gitignore", "!*.jsonl"), (".gitignore", "!/.flowspec/telemetry*")],
)
def test_an_ignore_file_that_keeps_events_gets_no_grant(
    undecided, repository, path: str, rule: str
) -> None:
    """It has the last word in git, so nothing is recorded, and the message says why."""
    a_file(repository)
    (repository / path).write_text(f"{rule}\n")
    before = (repository / ".git/info/exclude").read_text()
    with pytest.raises(ConsentError, match=r"a \.gitignore keeps telemetry\.jsonl"):
        grant(undecided, repository)
    record(undecided, repository)

    assert 0 == events(undecided, repository)
    assert before == (repository / ".git/info/exclude").read_text()


def test_a_log_that_git_tracks_gets_no_grant(undecided, repository) -> None:
    """Ignoring does nothing for a file that was committed."""
    (repository / ".flowspec").mkdir()
    (repository / ".flowspec/telemetry.jsonl").write_text("")
    git(repository, "add", "-f", ".flowspec/telemetry.jsonl")
    with pytest.raises(ConsentError, match="git rm --cached"):
        grant(undecided, repository)


def test_an_exclude_file_of_somebody_else_is_not_written(undecided, repository) -> None:
    """A link in its place is left alone; without it a folder of the host gets no grant."""
    a_file(repository)
    target = undecided.user / "target"
    target.write_text("")
    exclude = repository / ".git/info/exclude"
    exclude.unlink()
    exclude.symlink_to(target)
    with pytest.raises(ConsentError, match="version control"):
        grant(undecided, repository)

    assert "" == target.read_text()


def test_without_git_a_rule_that_keeps_anything_gets_no_grant(
    undecided, repository, monkeypatch
) -> None:
    """Nobody can be asked what it means."""
    a_file(repository)
    monkeypatch.setitem(undecided.environ, "PATH", "/nowhere")
    (repository / ".gitignore").write_text("!/src/x\n")
    with pytest.raises(ConsentError, match="git cannot be asked"):
        grant(undecided, repository)
    (repository / ".gitignore").write_text("/src/x\n")
    grant(undecided, repository)
    record(undecided, repository)

    assert [] == staged(repository)


def test_under_a_grant_for_all_projects_a_folder_of_the_host_waits(undecided, repository) -> None:
    """The recorder writes only into a folder that it made; the next command prepares it."""
    grant(undecided, undecided.user, all_projects=True)
    a_file(repository)
    record(undecided, repository)
    assert 0 == events(undecided, repository)
    assert undecided.python("-m", "telemetry_kit", "--app", "flowspec", "view").returncode == 0
    record(undecided, repository)

    assert 1 == events(undecided, repository)
    assert [] == staged(repository)


def test_under_a_grant_for_all_projects_a_folder_that_comes_with_the_clone_waits(
    undecided, repository
) -> None:
    """Our own ignore file can be committed, and proves nothing."""
    grant(undecided, undecided.user, all_projects=True)
    (repository / ".flowspec").mkdir()
    (repository / ".flowspec/.gitignore").write_bytes(ignore_file.IGNORE)
    record(undecided, repository)

    assert 0 == events(undecided, repository)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_day_of_use_leaves_git_as_it_was(undecided, layout) -> None:
    """In each layout: events, a seal, a clear and a reset; `git status` stays empty."""
    main, tree = layout(undecided.root)
    grant(undecided, main)
    for folder in (main, tree):
        record(undecided, folder)
    run = ("-m", "telemetry_kit", "--app", "flowspec")
    for words in (("off",), ("on", "--yes"), ("view",), ("clear", "--yes")):
        assert undecided.python(*run, *words, cwd=main).returncode == 0
        record(undecided, tree)

        assert ["", ""] == [git(folder, "status", "--porcelain") for folder in (main, tree)]
    assert undecided.python(*run, "reset", "--yes", cwd=main).returncode == 0
    assert not any(".flowspec" in path for path in undecided.tree())
    assert not any("flowspec" in p.read_text() for p in undecided.root.rglob("info/exclude"))


def test_an_odd_path_is_ignored_as_it_is(undecided, repository) -> None:
    """Whatever would be a pattern in the name of a folder stands for itself."""
    odd = made(repository / "a [b]*? !#\\c")
    (odd / ".flowspec").mkdir()
    (odd / ".flowspec/of-the-host").write_text("")
    grant(undecided, odd)
    record(undecided, odd)

    assert 1 == events(undecided, odd)
    assert [] == staged(repository)


def test_keys_in_a_home_directory_under_version_control(undecided) -> None:
    """Neither `git add -A` nor a commit of all dot files takes them."""
    git(undecided.user, "init", "-q")
    grant(undecided, undecided.root)
    record(undecided, undecided.root)
    git(undecided.user, "add", "-A")
    state = Path(os.path.dirname(undecided.home.state))
    assert "telemetry-kit/flowspec/place.key" not in git(undecided.user, "ls-files")
    (state / ".gitignore").unlink()
    git(undecided.user, "add", "-A")

    assert not any("state" in name for name in git(undecided.user, "ls-files").splitlines())


def test_a_reset_of_all_projects_leaves_the_user_as_before(undecided, repository) -> None:
    """No file and no folder: neither in the home directory nor in any project."""
    second = made(undecided.root.parent / "second")
    before = undecided.tree(), (repository / ".git/info/exclude").read_text()
    grant(undecided, repository)
    grant(undecided, second)
    for folder in (repository, second):
        record(undecided, folder)
    run = ("-m", "telemetry_kit", "--app", "flowspec", "reset", "--all-projects", "--yes")
    done = undecided.python(*run)

    assert (done.returncode, done.stdout) == (0, "")
    assert str(repository) in done.stderr
    assert str(second) in done.stderr
    assert before == (undecided.tree(), (repository / ".git/info/exclude").read_text())
    assert [] == os.listdir(second)


def test_a_reset_keeps_what_the_host_has_there(undecided, repository) -> None:
    """Only files of ours go from a folder of the host."""
    a_file(repository)
    grant(undecided, repository)
    record(undecided, repository)
    changes.reset(undecided.home, all_projects=True)

    assert ["memory.md"] == os.listdir(repository / ".flowspec")


def test_the_key_is_made_whoever_made_its_folder(undecided) -> None:
    """A command that was there first, or a kill while the key was made, keeps nothing off."""
    grant(undecided, undecided.user, all_projects=True)
    place = ProjectDirs.of(undecided.home).state
    os.makedirs(place)
    record(undecided, undecided.root)

    assert 1 == events(undecided, undecided.root)
    assert os.path.exists(f"{place}/key")


def test_nothing_is_lost_when_many_processes_meet_a_new_project(undecided) -> None:
    """Each event of the first processes of a project is there."""
    grant(undecided, undecided.user, all_projects=True)
    code = f"import sys; sys.stdin.readline()\nfor _ in range(25): {EVENT}"
    processes = [undecided.start(code) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in processes]

    assert [("", "")] * 4 == ends
    assert 100 == events(undecided, undecided.root)


def test_a_folder_that_was_there_before_is_said(undecided) -> None:
    """The refusal names the folder and what to do."""
    grant(undecided, undecided.user, all_projects=True)
    (undecided.root / ".flowspec").mkdir()
    with pytest.raises(Refused, match="after the next telemetry command"):
        recorder.current_key(undecided.home)
    changes.prepare_project(undecided.home)

    assert keys.load(str(undecided.key_file)).epoch == 1
