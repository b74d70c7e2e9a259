"""The export log contains no argument of the user as it was typed."""

import json

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.export import log

EXPORT = ("-m", "telemetry_kit", "--app", "flowspec", "export")


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize(
    ("typed", "logged"),
    [
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T10:20:30.123456789+00:00", "2026-01-02"),
        ("2026-01-02 23:20-05:00", "2026-01-03"),
    ],
)
def test_only_the_day_is_logged(place, option: str, typed: str, logged: str) -> None:
    """Of a time, the export log contains only the day."""
    assert 0 == place.python(*EXPORT, option, typed).returncode

    assert (
        f"export --format jsonl {option} {logged}"
        == next(iter(log.ExportLog(place.home)))["command"]
    )


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("typed", ["2026-01-02 call zora quill", "zora", "2026-01-02Tzora@quill.e"])
def test_an_invalid_day(place, option: str, typed: str) -> None:
    """An invalid day is a usage error, and no export is logged."""
    assert 2 == place.python(*EXPORT, option, typed).returncode

    assert [] == list(log.ExportLog(place.home))


@pytest.mark.parametrize(
    "typed", ["zora quillfeather", "h:zora quillfeather", "h:0123456789abzora"]
)
def test_a_role_is_logged_as_a_pseudonym(place, typed: str) -> None:
    """An undeclared role is logged as a pseudonym, whatever its first character is."""
    place.python(*EXPORT, "--role", typed)
    (entry,) = list(log.ExportLog(place.home))

    assert "zora" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("usage.csv", "usage.csv"),
        ("quillfeather-usage.csv", "?.csv"),
        ("zora@quill.example.json", "?.json"),
        ("for quillfeather", "?"),
    ],
)
def test_a_file_name_with_personal_data_is_not_logged(place, name: str, logged: str) -> None:
    """Of a file name with a user name, a host name or an address, only the extension is logged."""
    track_role_event("role.selected", role="dev")
    git = place.root / ".git"
    git.mkdir()
    (git / "config").write_text("[user]\n\tname = Zora Quillfeather\n")
    done = place.python(*EXPORT, "-o", name)
    (entry,) = list(log.ExportLog(place.home))
    verified = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify")

    assert (0, logged) == (done.returncode, entry["destination"])
    assert 0 == verified.returncode, verified.stdout + verified.stderr
