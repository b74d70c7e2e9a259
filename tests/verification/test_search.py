"""`verify` finds planted secrets in each form that it reports, and finds nothing else."""

import base64
import json
import random
import time
import unicodedata
import urllib.parse
from collections.abc import Callable

import pytest

from telemetry_kit.verification.certificate import KNOWN
from telemetry_kit.verification.machine_secrets import Secret
from telemetry_kit.verification.search import FORMS, Search, fold, select


def _base64(shift: int) -> Callable[[str], str]:
    return lambda s: base64.b64encode(b"~" * shift + s.encode() + b"?").decode()


ENCODERS: dict[str, dict[str, Callable[[str], str]]] = {
    "plain": {"": lambda s: s},
    "folded": {
        "lower": str.lower,
        "upper": str.upper,
        "swapped case": str.swapcase,
        "NFD": lambda s: unicodedata.normalize("NFD", s),
        "full width": lambda s: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in s),
        "accents": lambda s: "\u0301".join(s),
        "zero-width": "\u200b".join,
    },
    "JSON": {
        "\\u": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
        "\\/": lambda s: s.replace("/", "\\/"),
    },
    "URL": {
        "every byte": lambda s: "".join(f"%{b:02X}" for b in s.encode()),
        "quoted": lambda s: urllib.parse.quote(s, safe=""),
    },
    "hex": {
        "lower": lambda s: s.encode().hex(),
        "upper": lambda s: s.encode().hex().upper(),
        "with colons": lambda s: s.encode().hex(":"),
    },
    "base32": {
        "": lambda s: base64.b32encode(b"~" + s.encode()).decode(),
        "lower": lambda s: base64.b32encode(s.encode()).decode().lower(),
    },
    "base64": {
        "": _base64(0),
        "shifted by 1": _base64(1),
        "shifted by 2": _base64(2),
        "URL": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    },
    "UTF-16": {
        "le": lambda s: s.encode("utf-16-le").decode("latin-1"),
        "be": lambda s: s.encode("utf-16-be").decode("latin-1"),
    },
}
ENCODED = {
    f"{form} {name}".strip(): encode
    for form, encoders in ENCODERS.items()
    for name, encode in encoders.items()
}


def make_secrets(count: int = 12, seed: int = 12) -> list[str]:
    """Return random names, addresses, paths and tokens."""
    dice = random.Random(seed)

    def word(low: int, high: int) -> str:
        return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(low, high)))

    kinds = (
        lambda: word(8, 12).title(),
        lambda: f"{word(4, 7)}.{word(5, 8)}@{word(5, 8)}.example",
        lambda: f"/home/{word(6, 8)}/{word(5, 8)}",
        lambda: "".join(dice.choices("ABCDEFGHIJabcdefghij0123456789", k=24)),
    )
    return [kinds[n % len(kinds)]() for n in range(count)]


SECRETS = make_secrets()


def as_line(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """Return a clean line with `text` instead of a value."""
    record = json.loads(dice.choice(lines))
    record[dice.choice([k for k in record if isinstance(record[k], str)])] = text
    return json.dumps(record, separators=(",", ":")).encode()


def as_csv(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """Return an export with `text` in a cell."""
    rows = [list(json.loads(line).values()) for line in lines[:20]]
    rows[dice.randrange(20)][3] = text
    return "\n".join(",".join(str(cell) for cell in row) for row in rows).encode()


def as_json(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """Return an indented export with `text` under a key."""
    records = [json.loads(line) for line in lines[:20]]
    records[dice.randrange(20)]["role"] = text
    return json.dumps(records, indent=2).encode()


def as_html(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """Return a report with `text` in a cell."""
    cells = [f"<td>{json.loads(line)['event_id']}</td>" for line in lines[:20]]
    cells.insert(dice.randrange(20), f"<td>{text}</td>")
    return f"<html><body><table>{''.join(cells)}</table></body></html>".encode()


def as_record(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """Return a consent record with one more word."""
    return (
        "v1 yes 2026-11-22 notice=1 scope=0123456789abcdef expires=2027-11-22 time=day keep=90 "
        f"context=* more={text}\n"
    ).encode()


PLACES = {f.__name__[3:]: f for f in (as_line, as_csv, as_json, as_html, as_record)}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_planted_secrets_are_found(place, make_verification, make_lines) -> None:
    """The search finds 12 secrets in each of its forms."""
    dice = random.Random(7)
    lines = make_lines(40)
    search = make_verification(SECRETS).search
    missed = []
    for text in SECRETS:
        for name, encode in ENCODED.items():
            if name.startswith("JSON") and place in ("line", "json"):
                continue  # the format escapes its text itself
            data = PLACES[place](encode(text), lines, dice)
            if text not in {secret.text for secret in search.find(data)}:
                missed.append((name, text))

    assert [] == missed


def test_planted_secrets_fail_the_verification(make_verification, make_lines, tmp_path) -> None:
    """A secret in a line of events is a finding, in each of the forms."""
    dice = random.Random(8)
    lines = make_lines(40)
    for name, encode in ENCODED.items():
        path = tmp_path / "export.jsonl"
        planted = as_line(encode(SECRETS[0]), lines, dice)
        path.write_bytes(b"\n".join([*lines, planted]) + b"\n")
        certificate = make_verification(SECRETS).run([str(path)])

        assert not certificate.passed, name
        assert SECRETS[0] not in json.dumps(certificate.as_json())


def test_each_form_of_the_report_is_searched() -> None:
    """The certificate names exactly the forms that these tests plant."""
    assert set(FORMS) == set(ENCODERS)


@pytest.mark.parametrize("encode", ENCODED.values(), ids=ENCODED)
def test_assert_private_searches_the_same_forms(encode) -> None:
    """The search of the pytest fixture, which also finds parts of words, finds every form."""
    search = Search([Secret("secret", text) for text in SECRETS], whole_words=False)
    missed = [
        text
        for text in SECRETS
        if text not in {found.text for found in search.find(encode(text).encode())}
    ]

    assert [] == missed


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16(encoding, make_verification, tmp_path) -> None:
    """Secrets in other alphabets are found in UTF-16 too."""
    path = tmp_path / "report.txt"
    name = "\u0437\u043e\u0440\u0430\u0458\u0430"
    path.write_bytes(f"of {name} and Zora Quillfeather".encode(encoding))
    for text in (name, "zora quillfeather"):
        assert not make_verification([text]).run([str(path)]).passed


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_split_across_fields(text: str, make_verification, make_lines, tmp_path) -> None:
    """The halves of a secret in two fields are found."""
    half = len(text) // 2
    record = json.loads(make_lines(1)[0])
    record |= {"role": text[:half], "agent": "backend-engineer", "workflow": text[half:]}
    path = tmp_path / "export.json"
    path.write_text(json.dumps([record]))

    found = make_verification(SECRETS).run([str(path)]).findings

    assert KNOWN in {finding.layer for finding in found}


def test_a_secret_in_hex_fields(make_verification, make_lines, tmp_path) -> None:
    """A secret in the digits of two ids is found."""
    code = SECRETS[0].encode().hex()
    first, second = code[:16].ljust(16, "0"), code[16:28].ljust(12, "0")
    line = (
        f'{{"schema_version":"1.0","event_id":"{first}","event_type":"role.selected",'
        f'"timestamp":"2026-11-22T00:00:00Z","seq":1,"role":"dev","project_id":"h:{second}",'
        '"source":"api","key_epoch":1}'
    )
    path = tmp_path / "events.jsonl"
    path.write_text(line + "\n")
    verification = make_verification([SECRETS[0]])
    certificate = verification.run([str(path)])

    assert [] == verification.grammar.violations(bytes(line, "utf-8"))
    assert [KNOWN] == [finding.layer for finding in certificate.findings]


@pytest.mark.slow
def test_no_finding_in_clean_lines(make_verification, make_lines, tmp_path) -> None:
    """2,000 clean lines, as lines and as exports, contain none of 60 secrets."""
    lines = make_lines(2_000, 9)
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\n".join(lines) + b"\n")
    table = tmp_path / "events.csv"
    cells = [",".join(str(v) for v in json.loads(line).values()) for line in lines]
    table.write_text("\n".join(cells))
    whole = tmp_path / "events.json"
    whole.write_text(json.dumps([json.loads(line) for line in lines], indent=1))
    verification = make_verification([*make_secrets(60), "root", "main", "work", "2026", "user"])

    certificate = verification.run([str(log), str(table), str(whole)])

    assert [] == certificate.findings
    assert 2_000 == certificate.events
    assert 5 == sum(certificate.set_aside.values())


def test_fast_path(make_verification, make_lines, tmp_path) -> None:
    """Canonical lines cost less than 1 ms a kilobyte, of processor time."""
    lines = make_lines(5_000, 4)
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\n".join(lines) + b"\n")
    verification = make_verification(make_secrets(60))
    began = time.process_time()
    certificate = verification.run([str(log)])
    milliseconds = (time.process_time() - began) * 1_000

    assert certificate.passed
    assert milliseconds / (log.stat().st_size / 1_024) < 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jos\u00e9", "JOSE\u0301"),
        ("\uff33mith", "smith"),
        ("stra\u00dfe", "STRASSE"),
        ("a\u200bda", "ada"),
    ],
)
def test_fold_makes_spellings_equal(one: str, other: str) -> None:
    """Folding makes different spellings of a text equal."""
    assert fold(one) == fold(other)


def test_declared_and_common_words_are_set_aside() -> None:
    """Public words and common words such as `main` are set aside."""
    searched, set_aside, _ = select(
        [Secret("user", "main"), Secret("user", "zora"), Secret("directory", "engineer")],
        ["backend-engineer"],
    )

    assert [["zora"], ["main", "engineer"]] == [
        [secret.text for secret in listed] for listed in (searched, set_aside)
    ]
    assert "zora" not in repr(searched)


def test_short_words_are_whole_words() -> None:
    """A user name of four letters is found as a word, and inside another word only on request."""
    secret = Secret("user", "mark")
    texts = (b"bookmarks", b"by mark.", b"x=bWFyaw==")
    found = {
        whole: [len(Search([secret], whole_words=whole).find(text)) for text in texts]
        for whole in (True, False)
    }

    assert {True: [0, 1, 1], False: [1, 1, 1]} == found


@pytest.mark.parametrize("text", ["zora\nquill", "zora\tquill", 'zora"quill', "zora\\quill"])
def test_escaped_controls_are_found(text: str) -> None:
    """A secret with a control character is found in its JSON form."""
    secret = Secret("environment", text)

    assert {secret} == Search([secret]).find(json.dumps({"role": text}).encode())
