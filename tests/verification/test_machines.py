"""On ordinary machines, a declared name that is also a user name is not a finding."""

import json

import pytest

from telemetry_kit import configure, track_role_event
from telemetry_kit.verification.machine_secrets import Secret
from telemetry_kit.verification.verify import Baseline, Verification
from telemetry_kit.verification.vocabulary import of

AGENTS = [
    *("backend-engineer", "frontend-engineer", "ruby-pro", "rust-engineer", "search-specialist"),
    *("python-pro", "data-scientist", "code-reviewer", "security-auditor", "sql-pro", "mark"),
    *("product-manager", "release-manager", "platform-engineer", "qa-guardian", "max-tester"),
    *("docs-architect", "api-documenter", "incident-responder", "java-pro", "search", "ruby"),
]
COMMANDS = ["/flow:implement", "/flow:assess", "/speckit.plan", "/review", "deploy-preview"]
WORKFLOWS = ["spec-to-code", "hotfix-release", "weekly-report"]

USERS = [
    *("ruby", "mark", "max", "pro", "engineer", "backend", "search", "rust", "sql", "tester"),
    *("reviewer", "manager", "release", "docs", "flow", "plan", "spec", "weekly", "prompt"),
    *("notice", "scope", "entry", "destination", "method", "schema", "Ruby", "RUBY", "dev", "arch"),
]
BRANCHES = [
    *("feature/search", "search", "feature/ruby-pro", "fix/implement", "release/weekly-report"),
    *("feature/code-reviewer", "user/mark/sql-pro", "deploy-preview", "assess", "hotfix-release"),
]
FOLDERS = [
    *("/srv/backend-engineer", "/home/ruby/ruby-pro", "/work/search", "/code/flow/implement"),
    *("/opt/agents/qa-guardian", "/data/spec-to-code", "/Users/max/mark", "/src/platform-engineer"),
]
HOSTS = ["ruby", "search-specialist", "rust.example", "backend", "weekly-report", "sql-pro"]
NUMBERS = ["262144", "131072"]
MACHINES = {
    **{f"user {n}": [Secret("user", n), Secret("home", f"/home/{n}")] for n in USERS},
    **{
        f"branch {n}": [Secret("git branch", p) for p in (n, *n.split("/")) if len(p) > 3]
        for n in BRANCHES
    },
    **{
        f"folder {n}": [Secret("directory", p) for p in (n, *n.split("/")) if len(p) > 3]
        for n in FOLDERS
    },
    **{f"host {n}": [Secret("host", n), Secret("host", n.partition(".")[0])] for n in HOSTS},
    **{f"number {n}": [Secret("environment", n)] for n in NUMBERS},
}


@pytest.fixture
def recorded(undecided, tmp_path):
    """Events with every declared name, the records beside them, and exports of all kinds."""
    configure(agents=AGENTS, commands=COMMANDS, workflows=WORKFLOWS)
    undecided.grant()
    for agent in AGENTS:
        assert track_role_event("agent.completed", agent=agent, role="dev")
    for command in COMMANDS:
        track_role_event("command.executed", command=command, role="arch", agent="somebody")
    for workflow in WORKFLOWS:
        track_role_event("workflow.started", workflow=workflow)
    for form in ("csv", "json", "jsonl"):
        path = str(tmp_path / f"out.{form}")
        done = undecided.python(
            *("-m", "telemetry_kit", "--app", "flowspec", "export", "--format", form, "-o", path)
        )
        assert 0 == done.returncode, done.stderr
    return undecided


def verify(place, secrets, tmp_path):
    """The certificate on a machine with these secrets."""
    baseline = Baseline(place.home, of(place.home), place.key, "day", secrets)
    given = [str(tmp_path / f"out.{form}") for form in ("csv", "json", "jsonl")]
    return Verification(baseline).run(given)


def test_ordinary_machines_pass(recorded, tmp_path) -> None:
    """Users, branches, folders and hosts that have the name of an agent or a command pass."""
    found = {
        name: certificate.findings
        for name, secrets in MACHINES.items()
        if (certificate := verify(recorded, secrets, tmp_path)).findings
    }

    assert len(MACHINES) >= 48
    assert {} == found


@pytest.mark.parametrize("name", ["user ruby", "branch feature/search", "host sql-pro"])
def test_a_declared_name_that_is_a_word_of_the_machine_is_a_note(recorded, name, tmp_path) -> None:
    """A note names the kind of the word, without the word."""
    notes = verify(recorded, MACHINES[name], tmp_path).notes

    assert [MACHINES[name][0].kind] == [
        kind for kind in ("user", "git branch", "host") if any(kind in note for note in notes)
    ]
    assert all("no finding" in note for note in notes)


@pytest.mark.parametrize("text", ["zora.quillfeather", "zora@quill.example", "/home/zora/project"])
def test_other_words_of_the_machine_are_findings(recorded, text, tmp_path) -> None:
    """Beside all the declared names, a secret in the stored data is still found."""
    line = recorded.lines()[0].replace(b'"dev"', json.dumps(text).encode())
    recorded.log.write_bytes(recorded.log.read_bytes() + line)

    assert not verify(recorded, [Secret("user", text)], tmp_path).passed


def test_a_user_of_a_declared_name_through_the_command(recorded) -> None:
    """The command passes for a user called `ruby` on a branch called `feature/search`."""
    git = recorded.root / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/feature/search\n")
    done = recorded.python(
        *("-m", "telemetry_kit", "--app", "flowspec", "verify"), env={"USER": "ruby"}
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "words of this machine" in done.stdout


def test_findings_of_the_environment_have_their_own_sentence(recorded) -> None:
    """A key that others can read is a finding about the environment."""
    recorded.key_file.chmod(0o644)
    done = recorded.python("-m", "telemetry_kit", "--app", "flowspec", "verify")

    assert 1 == done.returncode
    assert "about the environment" in done.stderr
    assert "stored that should not be" not in done.stderr


def test_findings_of_stored_data_have_theirs(recorded) -> None:
    """Free text in the log is a finding about the stored data."""
    recorded.log.write_bytes(recorded.log.read_bytes() + b"free text\n")
    done = recorded.python("-m", "telemetry_kit", "--app", "flowspec", "verify")

    assert 1 == done.returncode
    assert "1 finding in the stored data" in done.stderr
    assert "environment, not" not in done.stderr
