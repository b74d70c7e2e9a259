"""git ignores the events and the keys, as git itself reports."""

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
from tests.test_worktrees import LAYOUTS, create_folder, git

EVENT = "telemetry_kit.track_role_event('agent.invoked')"


def grant(place, folder: Path, **more: bool) -> None:
    """Grant consent for a project by the real clock."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(folder, **more)


def record(place, folder: Path) -> None:
    """Record one event in a separate process."""
    done = place.run(EVENT, cwd=folder)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def count_events(place, folder: Path) -> int:
    """Return the number of events of a project."""
    log = Path(find("flowspec", str(folder), place.environ).log)
    return log.read_bytes().count(b"\n") if log.exists() else 0


def staged(folder: Path) -> list[str]:
    """Return the telemetry files that `git add -A` stages in this repository."""
    git(folder, "add", "-A")
    listed = git(folder, "ls-files").splitlines()
    return [name for name in listed if "telemetry" in name and "telemetry.toml" not in name]


@pytest.fixture
def repository(undecided) -> Path:
    """Create an empty repository whose user has not decided about telemetry."""
    git(undecided.root, "init", "-q")
    return undecided.root


def nothing(folder: Path) -> None:
    """The host has no directory of its own."""


def a_file(folder: Path) -> None:
    """The host stores a file there."""
    (folder / ".flowspec").mkdir()
    (folder / ".flowspec/memory.md").write_text("of the host")


def an_ignore_file(folder: Path) -> None:
    """The host ignores some of its own files."""
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
    """The ignore file has a second hard link."""
    (folder / ".flowspec").mkdir()
    (folder / "other").write_text("")
    os.link(folder / "other", folder / ".flowspec/.gitignore")


def a_folder(folder: Path) -> None:
    """A directory has the name of the ignore file."""
    a_file(folder)
    (folder / ".flowspec/.gitignore").mkdir()


def settings_alone(folder: Path) -> None:
    """The project has committed its telemetry settings."""
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
def test_git_stages_no_telemetry_file(undecided, repository, host, all_projects: bool) -> None:
    """Events are recorded and git stages none of their files, with any content in the directory."""
    host(repository)
    before = git(repository, "status", "--porcelain", "--untracked-files=all")
    grant(undecided, repository, all_projects=all_projects)
    record(undecided, repository)

    assert 1 == count_events(undecided, repository)
    assert before == git(repository, "status", "--porcelain", "--untracked-files=all")
    assert [] == staged(repository)


@pytest.mark.parametrize("host", HOSTS)
def test_files_of_the_host_do_not_change(undecided, repository, host) -> None:
    """Recording leaves the bytes and the modes of the host's files unchanged."""
    host(repository)

    def host_files() -> dict[str, tuple[int, bytes]]:
        files = [p for p in repository.rglob("*") if ".git" not in p.relative_to(repository).parts]
        files = [p for p in files if p.is_file() and not p.name.startswith(("telemetry.j", ".tel"))]
        return {str(p): (p.stat().st_mode, p.read_bytes()) for p in files}

    before = host_files()
    grant(undecided, repository)
    record(undecided, repository)
    after = host_files()

    assert before == {name: after[name] for name in before}
    assert {str(repository / ".flowspec/.gitignore")} >= set(after) - set(before)


@pytest.mark.parametrize("host", [nothing, a_file])
def test_an_ignore_file_that_is_deleted_later(undecided, repository, host) -> None:
    """If the ignore file is deleted, the lines in `.git/info/exclude` still ignore the events."""
    host(repository)
    grant(undecided, repository)
    record(undecided, repository)
    (repository / ".flowspec/.gitignore").unlink(missing_ok=True)
    assert [] == staged(repository)
    record(undecided, repository)

    assert 2 == count_events(undecided, repository)
    assert [] == staged(repository)


def test_exclude_lines_that_are_deleted_later(undecided, repository) -> None:
    """If the exclude lines are deleted, recording stops until a command restores them."""
    a_file(repository)
    grant(undecided, repository)
    record(undecided, repository)
    exclude = repository / ".git/info/exclude"
    exclude.write_text("")
    record(undecided, repository)
    assert 1 == count_events(undecided, repository)
    shown = undecided.python("-m", "telemetry_kit", "--app", "flowspec", "view")
    assert shown.returncode == 0
    record(undecided, repository)

    assert 2 == count_events(undecided, repository)
    assert [] == staged(repository)


@pytest.mark.parametrize(
    ("path", "rule"),
    [(".flowspec/.gitignore", "!*.jsonl"), (".gitignore", "!/.flowspec/telemetry*")],
)
def test_an_ignore_file_that_includes_events_prevents_a_grant(
    undecided, repository, path: str, rule: str
) -> None:
    """A `.gitignore` overrides the exclude file, so the grant fails with a message."""
    a_file(repository)
    (repository / path).write_text(f"{rule}\n")
    before = (repository / ".git/info/exclude").read_text()
    with pytest.raises(ConsentError, match=r"a \.gitignore keeps telemetry\.jsonl"):
        grant(undecided, repository)
    record(undecided, repository)

    assert 0 == count_events(undecided, repository)
    assert before == (repository / ".git/info/exclude").read_text()


def test_a_tracked_log_prevents_a_grant(undecided, repository) -> None:
    """An ignore rule has no effect on a committed file, so the grant fails."""
    (repository / ".flowspec").mkdir()
    (repository / ".flowspec/telemetry.jsonl").write_text("")
    git(repository, "add", "-f", ".flowspec/telemetry.jsonl")
    with pytest.raises(ConsentError, match="git rm --cached"):
        grant(undecided, repository)


def test_a_linked_exclude_file_is_not_written(undecided, repository) -> None:
    """If the exclude file is a link, it is not written and the grant fails."""
    a_file(repository)
    target = undecided.user / "target"
    target.write_text("")
    exclude = repository / ".git/info/exclude"
    exclude.unlink()
    exclude.symlink_to(target)
    with pytest.raises(ConsentError, match="version control"):
        grant(undecided, repository)

    assert "" == target.read_text()


def test_without_git_an_include_rule_prevents_a_grant(undecided, repository, monkeypatch) -> None:
    """Without git, the effect of an include rule is unknown, so the grant fails."""
    a_file(repository)
    monkeypatch.setitem(undecided.environ, "PATH", "/nowhere")
    (repository / ".gitignore").write_text("!/src/x\n")
    with pytest.raises(ConsentError, match="git cannot be asked"):
        grant(undecided, repository)
    (repository / ".gitignore").write_text("/src/x\n")
    grant(undecided, repository)
    record(undecided, repository)

    assert [] == staged(repository)


def test_a_grant_for_all_projects_and_a_directory_of_the_host(undecided, repository) -> None:
    """The recorder writes only to a directory that it created.

    The next command prepares the host's.
    """
    grant(undecided, undecided.user, all_projects=True)
    a_file(repository)
    record(undecided, repository)
    assert 0 == count_events(undecided, repository)
    assert undecided.python("-m", "telemetry_kit", "--app", "flowspec", "view").returncode == 0
    record(undecided, repository)

    assert 1 == count_events(undecided, repository)
    assert [] == staged(repository)


def test_a_grant_for_all_projects_and_a_directory_of_the_clone(undecided, repository) -> None:
    """A committed ignore file does not prove that the recorder created the directory."""
    grant(undecided, undecided.user, all_projects=True)
    (repository / ".flowspec").mkdir()
    (repository / ".flowspec/.gitignore").write_bytes(ignore_file.IGNORE)
    record(undecided, repository)

    assert 0 == count_events(undecided, repository)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_git_status_after_a_day_of_use(undecided, layout) -> None:
    """In each layout, `git status` stays empty after events, a seal, a clear and a reset."""
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


def test_a_path_with_pattern_characters(undecided, repository) -> None:
    """Pattern characters in a directory name are escaped in the ignore rule."""
    special = create_folder(repository / "a [b]*? !#\\c")
    (special / ".flowspec").mkdir()
    (special / ".flowspec/of-the-host").write_text("")
    grant(undecided, special)
    record(undecided, special)

    assert 1 == count_events(undecided, special)
    assert [] == staged(repository)


def test_keys_in_a_home_directory_under_version_control(undecided) -> None:
    """If the home directory is a repository, `git add -A` does not stage the keys."""
    git(undecided.user, "init", "-q")
    grant(undecided, undecided.root)
    record(undecided, undecided.root)
    git(undecided.user, "add", "-A")
    state = Path(os.path.dirname(undecided.home.state))
    assert "telemetry-kit/flowspec/place.key" not in git(undecided.user, "ls-files")
    (state / ".gitignore").unlink()
    git(undecided.user, "add", "-A")

    assert not any("state" in name for name in git(undecided.user, "ls-files").splitlines())


def test_a_reset_of_all_projects_deletes_everything(undecided, repository) -> None:
    """A reset deletes each file and directory, in the home directory and in the projects."""
    second = create_folder(undecided.root.parent / "second")
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


def test_a_reset_keeps_the_files_of_the_host(undecided, repository) -> None:
    """A reset deletes only telemetry files from a directory of the host."""
    a_file(repository)
    grant(undecided, repository)
    record(undecided, repository)
    changes.reset(undecided.home, all_projects=True)

    assert ["memory.md"] == os.listdir(repository / ".flowspec")


def test_a_key_in_an_existing_directory(undecided) -> None:
    """If the key's directory exists without a key, the recorder creates the key there."""
    grant(undecided, undecided.user, all_projects=True)
    place = ProjectDirs.of(undecided.home).state
    os.makedirs(place)
    record(undecided, undecided.root)

    assert 1 == count_events(undecided, undecided.root)
    assert os.path.exists(f"{place}/key")


def test_four_processes_start_in_a_new_project(undecided) -> None:
    """If four processes start in a new project, none of their events is lost."""
    grant(undecided, undecided.user, all_projects=True)
    code = f"import sys; sys.stdin.readline()\nfor _ in range(25): {EVENT}"
    processes = [undecided.start(code) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [("", "")] * 4 == outputs
    assert 100 == count_events(undecided, undecided.root)


def test_the_refusal_of_an_existing_directory(undecided) -> None:
    """The refusal names the directory and the remedy."""
    grant(undecided, undecided.user, all_projects=True)
    (undecided.root / ".flowspec").mkdir()
    with pytest.raises(Refused, match="after the next telemetry command"):
        recorder.current_key(undecided.home)
    changes.prepare_project(undecided.home)

    assert keys.load(str(undecided.key_file)).epoch == 1
