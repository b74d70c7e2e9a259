"""Questions to git: what they answer, and that they run nothing that the repository names."""

import os
import subprocess
from pathlib import Path

import pytest

from telemetry_kit.files import git

# Every key of git's configuration that names a program, with `{}` for that program.
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
QUESTIONS = (
    ("rev-parse", "--is-inside-work-tree"),
    ("rev-parse", "--git-common-dir"),
    ("rev-parse", "--git-path", "info/exclude"),
    ("check-ignore", "-q", "--no-index", "kept.txt"),
    ("check-ignore", "-v", "--no-index", "sub/kept.txt"),
    ("ls-files", "--error-unmatch", "--", "kept.txt"),
    ("ls-files", "-s", "--", ":(literal)kept.txt"),
)


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Git as its user runs it."""
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    return subprocess.run(
        ["git", *who, *words], cwd=folder, env=env, capture_output=True, check=False
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two committed files and one that is ignored."""
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


def ask(root: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[bytes] | None:
    """The answer to a question."""
    return git.run(str(root), *words, environ={"PATH": os.environ["PATH"], **environ})


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("check-ignore", "-q", "--no-index", "a.jsonl"), 0),
        (("check-ignore", "-q", "--no-index", "kept.txt"), 1),
        (("ls-files", "--error-unmatch", "--", "kept.txt"), 0),
        (("ls-files", "--error-unmatch", "--", "other.txt"), 1),
        (("rev-parse", "--is-inside-work-tree"), 0),
    ],
)
def test_git_answers(repository: Path, words: tuple[str, ...], code: int) -> None:
    """The exit code is git's own."""
    answer = ask(repository, *words)

    assert answer is not None
    assert code == answer.returncode


def test_the_output_is_git_s(repository: Path) -> None:
    """What git writes to stdout is returned whole."""
    answer = ask(repository, "rev-parse", "--show-toplevel")

    assert answer is not None
    assert f"{repository.resolve()}\n" == os.fsdecode(answer.stdout)


def test_no_repository(tmp_path: Path) -> None:
    """Outside of a repository git's own code for that is returned."""
    answer = ask(tmp_path, "rev-parse", "--is-inside-work-tree", GIT_DIR="/nowhere")

    assert answer is not None
    assert 128 == answer.returncode


@pytest.mark.parametrize("where", ["config", "included", "included if", "worktree"])
def test_a_repository_runs_nothing(repository: Path, tmp_path: Path, where: str) -> None:
    """No program that the configuration of a repository names is started by any question."""
    witness = tmp_path / "it-ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {witness}\nexit 1\n')
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
    # What was committed looks changed, and an object of the repository is not there.
    (repository / "kept.txt").write_text("else\n")
    (repository / ".gitignore").unlink()
    for found in (repository / ".git/objects").glob("[0-9a-f][0-9a-f]/*"):
        found.unlink()
    for words in QUESTIONS:
        ask(repository, *words)
        ask(repository / "sub", *words)

    assert not witness.exists(), witness.read_text()
    # The trap is one: git itself falls into it.
    run(repository, "status")
    assert witness.exists()


def test_variables_of_git_are_not_passed_on(repository: Path, tmp_path: Path) -> None:
    """What the environment says to git does not change the answer, nor run anything."""
    witness = tmp_path / "it-ran"
    told = {
        "GIT_DIR": str(tmp_path),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": f"touch {witness}; false",
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor'='touch {witness}; false'",
        "GIT_TRACE": str(witness),
        "GIT_TRACE2_EVENT": str(witness),
    }
    answer = ask(repository, "ls-files", "--error-unmatch", "--", "kept.txt", **told)

    assert answer is not None
    assert (0, False) == (answer.returncode, witness.exists())


def test_a_program_in_the_working_directory_is_not_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative folders of PATH are not searched."""
    witness = tmp_path / "it-ran"
    (repository / "git").write_text(f"#!/bin/sh\ntouch {witness}\n")
    (repository / "git").chmod(0o755)
    monkeypatch.chdir(repository)
    for path in (".:", "", f"sub/..:.:{os.environ['PATH']}"):
        ask(repository, "rev-parse", "--is-inside-work-tree", PATH=path)

    assert not witness.exists()


def test_there_is_no_git(repository: Path, tmp_path: Path) -> None:
    """Without git, or without the folder, there is no answer."""
    assert ask(repository, "rev-parse", PATH=str(tmp_path)) is None
    assert ask(repository / "gone", "rev-parse") is None


@pytest.mark.parametrize("name", [".git/config", ".git/info/exclude", ".git/index"])
def test_a_pipe_does_not_hang(repository: Path, name: str) -> None:
    """A pipe in the place of one of git's files is given up after a while."""
    path = repository / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    environ = {"PATH": os.environ["PATH"]}
    for words in QUESTIONS:
        answer = git.run(str(repository), *words, environ=environ, seconds=0.2)
        # Not every question looks into every file.
        assert answer is None or answer.returncode in (0, 1, 128)


def test_too_much_output(repository: Path) -> None:
    """More than 64 KiB are no answer."""
    many = repository / "many"
    many.mkdir()
    for number in range(400):
        (many / f"{number:03d}{'x' * 200}").touch()
    assert 0 == run(repository, "add", "-A").returncode

    assert ask(repository, "ls-files") is None


@pytest.mark.parametrize("words", [(), ("status",), ("-c", "core.pager=x", "rev-parse")])
def test_other_commands_are_refused(repository: Path, words: tuple[str, ...]) -> None:
    """Only commands that are known to run nothing are asked."""
    with pytest.raises(ValueError, match="use one of check-ignore"):
        ask(repository, *words)
