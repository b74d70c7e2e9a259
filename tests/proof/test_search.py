"""`verify` against itself: secrets that were put there in 20 disguises are found, nothing else."""

import base64
import codecs
import gzip
import html
import json
import quopri
import random
import time
import unicodedata
import urllib.parse
import zlib

import pytest

from telemetry_kit.disguise import fold
from telemetry_kit.proof.certificate import KNOWN
from telemetry_kit.proof.known import Secret
from telemetry_kit.proof.search import Search

ALIKE = str.maketrans("aceopxyi", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0456")


def _base64(shift: int):
    return lambda s: base64.b64encode(b"~" * shift + s.encode() + b"?").decode()


DISGUISES = {
    "raw": lambda s: s,
    "lower": str.lower,
    "upper": str.upper,
    "swapped case": str.swapcase,
    "reversed": lambda s: s[::-1],
    "NFD": lambda s: unicodedata.normalize("NFD", s),
    "full width": lambda s: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in s),
    "confusable": lambda s: s.translate(ALIKE),
    "zero-width": lambda s: "\u200b".join(s),
    "JSON escapes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "percent": lambda s: "".join(f"%{b:02X}" for b in s.encode()),
    "percent twice": lambda s: urllib.parse.quote(urllib.parse.quote(s + "/")),
    "HTML entities": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "HTML hex": lambda s: "".join(f"&#x{ord(c):x};" for c in html.escape(s)),
    "hex": lambda s: s.encode().hex(),
    "hex with colons": lambda s: s.encode().hex(":").upper(),
    "base32": lambda s: base64.b32encode(b"~" + s.encode()).decode(),
    "base64": _base64(0),
    "base64, shifted by 1": _base64(1),
    "base64, shifted by 2": _base64(2),
    "base64, URL": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "base64 twice": lambda s: _base64(1)(_base64(2)(s)),
    "base85": lambda s: base64.b85encode(s.encode()).decode(),
    "rot13": lambda s: codecs.encode(s, "rot13"),
    "zlib in base64": lambda s: base64.b64encode(zlib.compress(s.encode())).decode(),
    "gzip in base64": lambda s: base64.b64encode(gzip.compress(s.encode())).decode(),
    "quoted-printable": lambda s: quopri.encodestring(s.encode(), quotetabs=True).decode(),
    "octal": lambda s: "".join(f"\\{b:03o}" for b in s.encode()),
    "spaced": " ".join,
}


def make_secrets(count: int = 12, seed: int = 12) -> list[str]:
    """Random names, addresses, paths and tokens."""
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
    """A clean line with `text` in the place of a value."""
    record = json.loads(dice.choice(lines))
    record[dice.choice([k for k in record if isinstance(record[k], str)])] = text
    return json.dumps(record, separators=(",", ":")).encode()


def as_csv(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """An export with `text` in a cell."""
    rows = [list(json.loads(line).values()) for line in lines[:20]]
    rows[dice.randrange(20)][3] = text
    return "\n".join(",".join(str(cell) for cell in row) for row in rows).encode()


def as_json(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """An indented export with `text` under a key."""
    records = [json.loads(line) for line in lines[:20]]
    records[dice.randrange(20)]["role"] = text
    return json.dumps(records, indent=2).encode()


def as_html(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """A report with `text` in a cell."""
    cells = [f"<td>{json.loads(line)['event_id']}</td>" for line in lines[:20]]
    cells.insert(dice.randrange(20), f"<td>{text}</td>")
    return f"<html><body><table>{''.join(cells)}</table></body></html>".encode()


def as_record(text: str, lines: list[bytes], dice: random.Random) -> bytes:
    """A consent record with one more word."""
    return (
        "v1 yes 2026-11-22 notice=1 scope=0123456789abcdef expires=2027-11-22 time=day keep=90 "
        f"context=* more={text}\n"
    ).encode()


PLACES = {f.__name__[3:]: f for f in (as_line, as_csv, as_json, as_html, as_record)}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_planted_secrets_are_found(place, make_examination, make_lines) -> None:
    """Of 12 secrets in every disguise, at least 99 % are found by the search alone."""
    dice = random.Random(7)
    lines = make_lines(40)
    search = make_examination(SECRETS).search
    missed = []
    for text in SECRETS:
        for name, disguise in DISGUISES.items():
            data = PLACES[place](disguise(text), lines, dice)
            if text not in {secret.text for secret in search.find(data)}:
                missed.append((name, text))
    total = len(SECRETS) * len(DISGUISES)

    assert len(missed) <= total * 0.01, missed


def test_planted_secrets_fail_the_examination(make_examination, make_lines, tmp_path) -> None:
    """In a file of events, every planted line is a finding, whatever the disguise."""
    dice = random.Random(8)
    lines = make_lines(40)
    for name, disguise in DISGUISES.items():
        path = tmp_path / "export.jsonl"
        planted = as_line(disguise(SECRETS[0]), lines, dice)
        path.write_bytes(b"\n".join([*lines, planted]) + b"\n")
        certificate = make_examination(SECRETS).run([str(path)])

        assert not certificate.passed, name
        assert SECRETS[0] not in json.dumps(certificate.as_json())


@pytest.mark.parametrize("text", SECRETS)
def test_secret_split_across_fields(text: str, make_examination, make_lines, tmp_path) -> None:
    """Halves of a secret in two fields are put together again."""
    half = len(text) // 2
    record = json.loads(make_lines(1)[0])
    record |= {"role": text[:half], "agent": "backend-engineer", "workflow": text[half:]}
    path = tmp_path / "export.json"
    path.write_text(json.dumps([record]))

    found = make_examination(SECRETS).run([str(path)]).findings

    assert KNOWN in {finding.layer for finding in found}


def test_secret_spelled_in_hex_fields(make_examination, make_lines, tmp_path) -> None:
    """A secret as the digits of ids, over the border of two fields, is no random number."""
    code = SECRETS[0].encode().hex()
    first, second = code[:16].ljust(16, "0"), code[16:28].ljust(12, "0")
    line = (
        f'{{"schema_version":"1.0","event_id":"{first}","event_type":"role.selected",'
        f'"timestamp":"2026-11-22T00:00:00Z","seq":1,"role":"dev","project_id":"h:{second}",'
        '"source":"api","key_epoch":1}'
    )
    path = tmp_path / "events.jsonl"
    path.write_text(line + "\n")
    examination = make_examination([SECRETS[0]])
    certificate = examination.run([str(path)])

    assert [] == examination.grammar.flaws(bytes(line, "utf-8"))
    assert [KNOWN] == [finding.layer for finding in certificate.findings]


@pytest.mark.slow
def test_no_alarm_on_clean_lines(make_examination, make_lines, tmp_path) -> None:
    """2,000 clean lines, as lines and as exports, are no finding for 60 secrets."""
    lines = make_lines(2_000, 9)
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\n".join(lines) + b"\n")
    table = tmp_path / "events.csv"
    cells = [",".join(str(v) for v in json.loads(line).values()) for line in lines]
    table.write_text("\n".join(cells))
    whole = tmp_path / "events.json"
    whole.write_text(json.dumps([json.loads(line) for line in lines], indent=1))
    examination = make_examination([*make_secrets(60), "root", "main", "work", "2026", "user"])

    certificate = examination.run([str(log), str(table), str(whole)])

    assert [] == certificate.findings
    assert 2_000 == sum(looked.events for looked in certificate.files)
    assert 5 == sum(certificate.set_aside.values())


def test_fast_path(make_examination, make_lines, tmp_path) -> None:
    """Canonical lines cost less than 1 ms a kilobyte, of processor time."""
    lines = make_lines(5_000, 4)
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\n".join(lines) + b"\n")
    examination = make_examination(make_secrets(60))
    began = time.process_time()
    certificate = examination.run([str(log)])
    milliseconds = (time.process_time() - began) * 1_000

    assert certificate.passed
    assert milliseconds / (log.stat().st_size / 1_024) < 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Jos\u00e9", "JOSE\u0301"),
        ("\uff33mith", "smith"),
        ("\u0440\u0430ul", "paul"),
        ("stra\u00dfe", "STRASSE"),
        ("a\u200bda", "ada"),
    ],
)
def test_fold_makes_twins_equal(one: str, other: str) -> None:
    """Texts that look the same are the same when folded."""
    assert fold(one) == fold(other)


def test_declared_and_common_words_are_set_aside() -> None:
    """A user called `main` does not make every report an alarm, and the count says so."""
    search = Search(
        [Secret("user", "main"), Secret("user", "zora"), Secret("directory", "engineer")],
        ["backend-engineer"],
    )

    assert [["zora"], ["main", "engineer"]] == [
        [secret.text for secret in listed] for listed in (search.secrets, search.set_aside)
    ]
    assert "zora" not in repr(search.secrets)


def test_short_words_stand_alone() -> None:
    """A user called `mark` is found as a word, not inside another."""
    search = Search([Secret("user", "mark")])

    assert [0, 1, 1] == [len(search.find(t)) for t in (b"bookmarks", b"by mark.", b"x=bWFyaw==")]
