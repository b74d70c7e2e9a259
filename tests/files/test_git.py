"""Queries to git: their answers, and that they run no program that the repository names."""

import os
import subprocess
from pathlib import Path

import pytest

from telemetry_kit.files import git

# Each key of git's configuration that names a program, with `{}` for the program.
PROGRAMS = """
[core]
    fsmonitor = {}
    hooksPath = {hooks}
    pager = {}
    editor = {}
    sshCommand = {}
    askPass = {}
    gitProxy = {}
    alternateRefsCommand = {}
    untrackedCache = true
[alias]
    check-ignore = !{}
    ls-files = !{}
    rev-parse = !{}
[pager]
    check-ignore = {}
    ls-files = {}
    rev-parse = {}
[diff]
    external = {}
[diff "mine"]
    command = {}
    textconv = {}
[filter "mine"]
    clean = {}
    smudge = {}
    process = {}
    required = true
[merge "mine"]
    driver = {}
[credential]
    helper = !{}
[gpg]
    program = {}
[gpg "ssh"]
    defaultKeyCommand = {}
[interactive]
    diffFilter = {}
[sequence]
    editor = {}
[trailer "mine"]
    command = {}
[uploadpack]
    packObjectsHook = {}
[protocol]
    allow = always
[protocol "ext"]
    allow = always
[extensions]
    partialClone = origin
[remote "origin"]
    url = ext::{} %S
    promisor = true
    uploadpack = {}
    vcs = mine
[submodule "mine"]
    update = !{}
[include]
    path = nowhere
"""
HOOKS = ("post-index-change", "pre-commit", "fsmonitor-watchman", "query-watchman", "post-checkout")
QUERIES = (
    ("rev-parse", "--is-inside-work-tree"),
    ("rev-parse", "--git-common-dir"),
    ("rev-parse", "--git-path", "info/exclude"),
    ("check-ignore", "-q", "--no-index", "kept.txt"),
    ("check-ignore", "-v", "--no-index", "sub/kept.txt"),
    ("ls-files", "--error-unmatch", "--", "kept.txt"),
    ("ls-files", "-s", "--", ":(literal)kept.txt"),
)


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run git as a user does."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    return subprocess.run(
        ["git", *author, *arguments], cwd=folder, env=env, capture_output=True, check=False
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Create a repository with two committed files and an ignored one."""
    root = tmp_path / "work"
    (root / "sub").mkdir(parents=True)
    assert 0 == run(root, "init", "-q").returncode
    (root / "kept.txt").write_text("kept\n")
    (root / "sub/kept.txt").write_text("kept\n")
    (root / ".gitignore").write_text("*.jsonl\n")
    (root / ".gitattributes").write_text("*.txt filter=mine diff=mine merge=mine\n")
    assert 0 == run(root, "add", "-A").returncode
    assert 0 == run(root, "commit", "-q", "-m", "first").returncode
    return root


def query(root: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes] | None:
    """Return the result of a query."""
    return git.run(str(root), *arguments, environ={"PATH": os.environ["PATH"], **environ})


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("check-ignore", "-q", "--no-index", "a.jsonl"), 0),
        (("check-ignore", "-q", "--no-index", "kept.txt"), 1),
        (("ls-files", "--error-unmatch", "--", "kept.txt"), 0),
        (("ls-files", "--error-unmatch", "--", "other.txt"), 1),
        (("rev-parse", "--is-inside-work-tree"), 0),
    ],
)
def test_git_answers(repository: Path, arguments: tuple[str, ...], exit_code: int) -> None:
    """The exit code is that of git."""
    answer = query(repository, *arguments)

    assert answer is not None
    assert exit_code == answer.returncode


def test_the_output_of_git(repository: Path) -> None:
    """The complete stdout of git is returned."""
    answer = query(repository, "rev-parse", "--show-toplevel")

    assert answer is not None
    assert f"{repository.resolve()}\n" == os.fsdecode(answer.stdout)


def test_no_repository(tmp_path: Path) -> None:
    """Outside a repository, git's own exit code is returned."""
    answer = query(tmp_path, "rev-parse", "--is-inside-work-tree", GIT_DIR="/nowhere")

    assert answer is not None
    assert 128 == answer.returncode


@pytest.mark.parametrize("where", ["config", "included", "included if", "worktree"])
def test_a_repository_runs_nothing(repository: Path, tmp_path: Path, where: str) -> None:
    """No query runs a program that the configuration of the repository names."""
    marker = tmp_path / "it-ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {marker}\nexit 1\n')
    program.chmod(0o755)
    hooks = repository / ".git/hooks"
    for name in HOOKS:
        (hooks / name).write_text(program.read_text())
        (hooks / name).chmod(0o755)
    (hooks / "git-remote-mine").symlink_to(program)
    text = PROGRAMS.replace("{hooks}", str(hooks)).replace("{}", str(program))
    config = repository / ".git/config"
    if where == "config":
        config.write_text(config.read_text() + text)
    elif where == "worktree":
        config.write_text(config.read_text() + "[extensions]\n\tworktreeConfig = true\n")
        (repository / ".git/config.worktree").write_text(text)
    else:
        head = "[include]" if where == "included" else f'[includeIf "gitdir:{repository}/"]'
        config.write_text(config.read_text() + f"{head}\n\tpath = {tmp_path}/more\n")
        (tmp_path / "more").write_text(text)
    # A committed file looks changed, and the objects of the repository are missing.
    (repository / "kept.txt").write_text("else\n")
    (repository / ".gitignore").unlink()
    for object_file in (repository / ".git/objects").glob("[0-9a-f][0-9a-f]/*"):
        object_file.unlink()
    for arguments in QUERIES:
        query(repository, *arguments)
        query(repository / "sub", *arguments)

    assert not marker.exists(), marker.read_text()
    # The setup works: git itself runs the program.
    run(repository, "status")
    assert marker.exists()


def test_variables_of_git_are_not_passed_on(repository: Path, tmp_path: Path) -> None:
    """Git variables of the environment neither change the answer nor run a program."""
    marker = tmp_path / "it-ran"
    environ = {
        "GIT_DIR": str(tmp_path),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": f"touch {marker}; false",
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor'='touch {marker}; false'",
        "GIT_TRACE": str(marker),
        "GIT_TRACE2_EVENT": str(marker),
    }
    answer = query(repository, "ls-files", "--error-unmatch", "--", "kept.txt", **environ)

    assert answer is not None
    assert (0, False) == (answer.returncode, marker.exists())


def test_a_program_in_the_working_directory_is_not_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative directories of PATH are not searched."""
    marker = tmp_path / "it-ran"
    (repository / "git").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (repository / "git").chmod(0o755)
    monkeypatch.chdir(repository)
    for path in (".:", "", f"sub/..:.:{os.environ['PATH']}"):
        query(repository, "rev-parse", "--is-inside-work-tree", PATH=path)

    assert not marker.exists()


def test_without_git(repository: Path, tmp_path: Path) -> None:
    """Without git, or without the directory, the result is None."""
    assert query(repository, "rev-parse", PATH=str(tmp_path)) is None
    assert query(repository / "gone", "rev-parse") is None


@pytest.mark.parametrize("name", [".git/config", ".git/info/exclude", ".git/index"])
def test_a_pipe_does_not_hang(repository: Path, name: str) -> None:
    """If a file of git is a pipe, the query ends after a timeout."""
    path = repository / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    environ = {"PATH": os.environ["PATH"]}
    for arguments in QUERIES:
        answer = git.run(str(repository), *arguments, environ=environ, seconds=0.2)
        # Some queries do not read the file.
        assert answer is None or answer.returncode in (0, 1, 128)


def test_too_much_output(repository: Path) -> None:
    """With more than 64 KiB of output, the result is None."""
    directory = repository / "many"
    directory.mkdir()
    for number in range(400):
        (directory / f"{number:03d}{'x' * 200}").touch()
    assert 0 == run(repository, "add", "-A").returncode

    assert query(repository, "ls-files") is None


@pytest.mark.parametrize("arguments", [(), ("status",), ("-c", "core.pager=x", "rev-parse")])
def test_other_commands_are_refused(repository: Path, arguments: tuple[str, ...]) -> None:
    """Only commands that are known to run no program are accepted."""
    with pytest.raises(ValueError, match="use one of check-ignore"):
        query(repository, *arguments)
