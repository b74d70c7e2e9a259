"""`telemetry-kit verify` in one project: passes, failures, and output without secrets."""

import gzip
import json
import sys

import pexpect
import pytest

from telemetry_kit.verification.search import FORMS

SECRET = "zora.quillfeather@quill.example"


@pytest.fixture
def project(place):
    """Make a git repository with an identity and some events."""
    config = place.root / ".git"
    config.mkdir()
    (config / "config").write_text(f"[user]\n\tname = Zora Quillfeather\n\temail = {SECRET}\n")
    (config / "HEAD").write_text("ref: refs/heads/quillfeather-branch\n")
    for name in ("dev", SECRET, "qa"):
        place.run(f"from telemetry_kit import *; track_role_event('role.selected', role={name!r})")
    return place


def verify(place, *args, **options):
    """Run `verify` and return its exit code, certificate and output."""
    done = place.python("-m", "telemetry_kit", "verify", "--json", *args, **options)
    return done.returncode, json.loads(done.stdout), done.stdout + done.stderr


def test_a_clean_project_passes(project) -> None:
    """Recorded events pass, also those of secret names, and each file has its hash."""
    code, certificate, _ = verify(project)

    assert (0, []) == (code, certificate["findings"])
    assert 3 == certificate["events"]
    assert certificate["secrets_looked_for"]["git identity"] >= 2
    assert all(f["sha256"] or f["kind"] == "key" for f in certificate["files"])
    assert 0 < certificate["capacity_bits_per_line"]["random"] < 300
    assert list(FORMS) == certificate["forms_looked_for"]


def test_the_certificate_as_text(project) -> None:
    """The certificate lists the five layers and the searched forms of a secret."""
    done = project.python("-m", "telemetry_kit", "verify")

    assert 0 == done.returncode
    assert done.stdout.startswith("PASSED: 3 events")
    assert 5 == done.stdout.count("  ok  ")
    assert f"forms of the secrets searched for: {', '.join(FORMS)}\n" in done.stdout


@pytest.mark.parametrize(
    "where", ["log", "record", "history", "names", "export", "archive", "folder"]
)
def test_planted_secret_fails_and_is_not_repeated(project, where, tmp_path) -> None:
    """A secret in any file is a finding with exit code 1, and the output does not contain it."""
    args = []
    line = project.lines()[0].replace(b'"dev"', json.dumps(SECRET).encode())
    if where == "log":
        project.log.write_bytes(project.log.read_bytes() + line)
    elif where == "archive":
        (project.log.parent / "telemetry-2026-11-01.jsonl.gz").write_bytes(gzip.compress(line))
    elif where == "export":
        (tmp_path / "out.csv").write_text(f"role,agent\ndev,{SECRET}\n")
        args = [str(tmp_path / "out.csv")]
    elif where == "folder":
        (project.key_file.parents[1] / "quillfeather").mkdir()
    else:
        path = {
            "record": project.record,
            "history": project.record.parent / "telemetry.history.jsonl",
            "names": project.key_file.parent / "names",
        }[where]
        text = {"names": f'["roles","{SECRET}"]\n'}.get(where, f"note={SECRET}\n")
        old = path.read_bytes() if path.exists() else b""
        path.write_bytes(old.rstrip(b"\n") + b" " * bool(old) + text.encode())
        path.chmod(0o600)
    code, certificate, printed = verify(project, *args)

    assert 1 == code
    assert certificate["findings"]
    assert SECRET not in printed
    assert "uillfeather" not in printed


def test_folder_names_are_masked(project) -> None:
    """A folder with an unknown name is a finding, and the output does not contain the name."""
    folder = project.key_file.parents[1] / "quillfeather" / "zora-quillfeather"
    folder.mkdir(parents=True)
    (folder / "open").touch()
    (folder / "open").chmod(0o666)
    code, certificate, printed = verify(project)
    found = {(finding["file"], finding["kind"]) for finding in certificate["findings"]}

    assert 1 == code
    assert ("state/projects/?", "a folder that is not named by a code") in found
    assert ("state/projects/?/?/?", "open to others (mode 0666)") in found
    assert "uillfeather" not in printed


@pytest.mark.parametrize("epoch", ["project", "epoch"])
def test_foreign_pseudonyms_fail(project, epoch) -> None:
    """A project pseudonym of another key or an unknown epoch is a finding."""
    line = project.lines()[-1]
    event = json.loads(line)
    if epoch == "project":
        line = line.replace(event["project_id"].encode(), b"h:0123456789ab")
    else:
        line = line.replace(b'"key_epoch":1', b'"key_epoch":7')
    project.log.write_bytes(project.log.read_bytes() + line)
    code, certificate, _ = verify(project)

    assert 1 == code
    assert {"provenance": 1}.items() <= certificate["findings_by_layer"].items()


def test_an_undeclared_version_fails(project) -> None:
    """A version that the program has not declared is a finding, like any other number."""
    line = project.lines()[-1].replace(b'"key_epoch"', b'"app_version":"49.30.123456","key_epoch"')
    project.log.write_bytes(project.log.read_bytes() + line)
    status, certificate, _ = verify(project)

    assert 1 == status
    assert {"app_version"} == {finding["field"] for finding in certificate["findings"]}


def test_unkeyed_hash_of_the_user_fails(project) -> None:
    """A plain SHA-256 of the address of the user is a finding."""
    import hashlib

    code = hashlib.sha256(SECRET.encode()).hexdigest()[:12]
    line = project.lines()[0].replace(b'"dev"', f'"h:{code}"'.encode())
    project.log.write_bytes(project.log.read_bytes() + line)
    status, certificate, printed = verify(project)

    assert 1 == status
    assert ["a hash without a key, of: git identity"] == [
        f["kind"] for f in certificate["findings"]
    ]
    assert "z... (31 characters)" in printed


def test_torn_and_blank_lines_are_counted(project) -> None:
    """A torn line of a killed process is counted and is not a finding."""
    line = project.lines()[0]
    project.log.write_bytes(project.log.read_bytes() + line[:100] + b"\n\n" + line)
    code, certificate, _ = verify(project)
    log = next(f for f in certificate["files"] if f["kind"] == "active")

    assert (0, 1, 1, 4) == (code, log["torn"], log["blank"], log["events"])


def test_name_declared_by_the_project_is_public(project) -> None:
    """A name that the project declares is not a finding."""
    (project.log.parent / "telemetry.toml").write_text(f'roles = ["{SECRET}"]\n')
    project.run(f"from telemetry_kit import *; track_role_event('role.selected', role={SECRET!r})")
    code, certificate, _ = verify(project)

    assert SECRET in {event.get("role") for event in project.events()}
    assert (0, []) == (code, certificate["findings"])


def test_open_key_fails(project) -> None:
    """A key that other users can read is a finding about the environment."""
    project.key_file.chmod(0o644)
    code, certificate, _ = verify(project)

    assert 1 == code
    assert certificate["findings_by_layer"]["environment"] >= 1


def test_without_a_decision(undecided) -> None:
    """Without a decision, the command passes and creates no file."""
    code, certificate, _ = verify(undecided)

    assert (0, 0, []) == (code, certificate["events"], undecided.tree())


def test_a_file_that_cannot_be_looked_into(project, tmp_path) -> None:
    """The command fails with one sentence that names the file, and still prints the report."""
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7\n")
    done = project.python("-m", "telemetry_kit", "verify", str(tmp_path / "report.pdf"), "/")
    code, certificate, _ = verify(project, "/")

    assert (1, 1, []) == (done.returncode, code, certificate["findings"])
    assert done.stdout.startswith("FAILED: 3 events")
    assert "  not searched: cannot look into /: it is a folder (EISDIR)\n" in done.stdout
    assert done.stderr == (
        "telemetry-kit: cannot look into report.pdf: it is neither text nor an archive of a known "
        "kind, and 1 more: see the report\n"
    )
    assert ["cannot look into /: it is a folder (EISDIR)"] == certificate["unsearched"]


@pytest.mark.parametrize("where", ["archive", "record"])
def test_stored_data_that_cannot_be_read_to_its_end(project, where) -> None:
    """A damaged archive, or a record that is too long, fails, because not all of it is searched."""
    if where == "archive":
        path = project.log.parent / "telemetry-2026-11-01.jsonl.gz"
        path.write_bytes(gzip.compress(b"".join(project.lines()))[:-9])
    else:
        path = project.key_file.parent / "notes"
        with open(path, "wb") as file:
            file.truncate(9 << 20)
    code, certificate, printed = verify(project)

    assert 1 == code
    assert any(path.name in told for told in certificate["unsearched"])
    assert path.name in printed


@pytest.mark.tty
@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("words", [("verify", "report.pdf", "/"), ("find", "Dev")])
def test_no_line_is_wider_than_the_terminal(project, columns: int, words: tuple[str, ...]) -> None:
    """The report, the hashes and the messages fit the terminal, and a pipe has whole hashes."""
    (project.root / "report.pdf").write_bytes(b"%PDF-1.7\n")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "telemetry_kit", *words],
        cwd=project.root,
        env={"TERM": "xterm", **project.env},
        dimensions=(24, columns),
        timeout=30,
    )
    child.expect(pexpect.EOF)
    printed = child.before.decode("ascii")
    piped = project.python("-m", "telemetry_kit", *words)
    shown = set("".join(printed.split()).split("sha256")[1:])

    assert max(map(len, printed.splitlines())) <= columns
    assert columns // 2 < max(map(len, printed.splitlines()))
    assert all(f"sha256 {digits[:12]}" in piped.stdout for digits in shown)
    assert piped.stderr.split() == printed.split()[-len(piped.stderr.split()) :]
