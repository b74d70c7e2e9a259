"""What is noted of an export: nothing that was typed stands in it as it was typed."""

import json

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.export import log

EXPORT = ("-m", "telemetry_kit", "--app", "flowspec", "export")


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize(
    ("typed", "noted"),
    [
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T10:20:30.123456789+00:00", "2026-01-02"),
        ("2026-01-02 23:20-05:00", "2026-01-03"),
    ],
)
def test_only_the_day_is_noted(place, option: str, typed: str, noted: str) -> None:
    """Of a time only its day is noted."""
    assert 0 == place.python(*EXPORT, option, typed).returncode

    assert (
        f"export --format jsonl {option} {noted}"
        == next(iter(log.ExportLog(place.home)))["command"]
    )


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("typed", ["2026-01-02 call zora quill", "zora", "2026-01-02Tzora@quill.e"])
def test_a_text_that_is_no_day_is_refused(place, option: str, typed: str) -> None:
    """Free text is a usage error, and nothing is noted."""
    assert 2 == place.python(*EXPORT, option, typed).returncode

    assert [] == list(log.ExportLog(place.home))


@pytest.mark.parametrize(
    "typed", ["zora quillfeather", "h:zora quillfeather", "h:0123456789abzora"]
)
def test_a_role_is_noted_as_a_pseudonym(place, typed: str) -> None:
    """A role that no one declared is not noted as it was typed, whatever it begins with."""
    place.python(*EXPORT, "--role", typed)
    (entry,) = list(log.ExportLog(place.home))

    assert "zora" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("name", "noted"),
    [
        ("usage.csv", "usage.csv"),
        ("quillfeather-usage.csv", "?.csv"),
        ("zora@quill.example.json", "?.json"),
        ("for quillfeather", "?"),
    ],
)
def test_a_file_name_with_personal_data_is_not_noted(place, name: str, noted: str) -> None:
    """Of a name that holds a word of this machine or an address only the ending is noted."""
    track_role_event("role.selected", role="dev")
    git = place.root / ".git"
    git.mkdir()
    (git / "config").write_text("[user]\n\tname = Zora Quillfeather\n")
    done = place.python(*EXPORT, "-o", name)
    (entry,) = list(log.ExportLog(place.home))
    verified = place.python("-m", "telemetry_kit", "--app", "flowspec", "verify")

    assert (0, noted) == (done.returncode, entry["destination"])
    assert 0 == verified.returncode, verified.stdout + verified.stderr
