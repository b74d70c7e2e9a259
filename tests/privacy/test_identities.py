"""No file contains an identity that a program passed to the public API."""

import base64
import json
import os
import random
import re
import string
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry_kit import hash_pii, role_session, track_role_event, tracks
from telemetry_kit.cli import record
from telemetry_kit.context import propagate
from telemetry_kit.storage.reader import read

IDENTITIES = 1_500
MIN_CHARS = 4
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
LOCALES = ("en_US", "de_DE", "fr_FR", "ja_JP", "ru_RU", "ar_AA", "hi_IN", "zh_CN", "el_GR", "vi_VN")
NAUGHTY = (
    "' OR '1'='1",
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "${jndi:ldap://zora}",
    "\u202ezora\u202c",
    "zora\x00quill",
    "zora\nquill",
    '","role":"zora',
    '{"schema_version":"1.0","event_id":"zora',
    "h:zoraquill123",
    "\ud800zora",
    "z\u0336o\u0336r\u0336a\u0336",
    "\U0001f469\u200d\U0001f4bbzora",
    "=cmd|'/C calc'!A0",
    "A" * 1_024 + "zora",
)
PROCESSES = 5
VARIABLES = (
    "FLOWSPEC_TELEMETRY_SESSION_ID",
    "FLOWSPEC_TELEMETRY_PARENT_ID",
    "ZORA",
    "USER",
    "LOGNAME",
    "HOSTNAME",
    "EMAIL",
    "GIT_AUTHOR_NAME",
    "GIT_COMMITTER_EMAIL",
)
# Random ids contain the hex digits of shorter texts by chance.
HEX_BYTES = 6
_SYLLABLES = (
    ["ka", "ro", "mi", "ten", "zu", "vel", "bra", "qui", "nor", "fy", "jes", "ux", "woz", "gim"],
    [
        "\u0436\u0430",
        "\u0440\u043e",
        "\u043a\u0438",
        "\u0434\u0435",
        "\u043b\u044e",
        "\u043d\u0443",
    ],
    ["\u6d0b", "\u5b50", "\u7530", "\u4e2d", "\u9234", "\u6728", "\u6797", "\u4f50"],
    ["\u00e9l", "\u00f1a", "\u00fcr", "\u00e5k", "\u00f8d", "\u0142o", "\u00e7u", "\u00dfe"],
)


def invent(count: int, seed: int) -> list[str]:
    """Generate names, addresses, paths, numbers and tokens that belong to no person."""
    dice = random.Random(seed)

    def word(script: int = 0) -> str:
        return "".join(dice.choices(_SYLLABLES[script], k=dice.randint(3, 5)))

    def digits(count: int) -> str:
        return "".join(dice.choices(string.digits, k=count))

    kinds = (
        lambda: f"{word(dice.randrange(4)).title()} {word(dice.randrange(4)).title()}",
        lambda: f"{word()}.{word()}@{word()}.example",
        lambda: f"/home/{word()}/{word()}/{word()}.py",
        lambda: rf"C:\Users\{word()}\{word()}",
        lambda: f"https://{word()}:{word()}@{word()}.example/{word()}?token={digits(20)}",
        lambda: f"+{digits(2)} {digits(3)} {digits(8)}",
        lambda: ".".join(str(dice.randrange(100, 256)) for _ in range(4)),
        lambda: "ghp_" + "".join(dice.choices(string.ascii_letters + string.digits, k=36)),
        lambda: f"{digits(4)} {digits(4)} {digits(4)} {digits(4)}",
        lambda: f"{word()}-{digits(6)}",
    )
    return [kinds[n % len(kinds)]() for n in range(count)]


def invent_by_faker(count: int) -> list[str]:
    """Generate identities in several locales with Faker, if it is installed."""
    faker = pytest.importorskip("faker", reason="the corpora of Faker are not installed")
    made = faker.Faker(list(LOCALES))
    faker.Faker.seed(6)
    kinds = ("name", "email", "address", "phone_number", "user_name", "company", "url", "iban")
    return [str(getattr(made, kinds[n % len(kinds)])()) for n in range(count)]


class SourError(ValueError):
    """The error of the program, with an identity as its text."""


def record_in_processes(texts: list[str], place, temp: Path) -> int:
    """Pass some texts on command lines and in environments, and return how many processes ran."""
    fit = [text for text in texts if len(text) >= 4 and is_argument(text)]
    chosen = fit[:: max(1, len(fit) // PROCESSES)][:PROCESSES]
    for text in chosen:
        words = ["record", "agent.invoked", "--agent", text, f"--role={text}", "--command", text]
        env = {**dict.fromkeys(VARIABLES, text), "TMPDIR": str(temp)}
        done = place.python("-m", "telemetry_kit", *words, env=env)

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    return len(chosen)


def is_argument(text: str) -> bool:
    """Return whether the system accepts a text as a command-line argument."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def record_everywhere(texts: list[str], place) -> None:
    """Pass every text to every public function and command that accepts text."""

    @tracks("agent.invoked", agent="backend-engineer")
    def fail(text: str, **more: str) -> str:
        raise SourError(text)

    dice = random.Random(5)
    for number, text in enumerate(texts):
        one = dict.fromkeys(
            ("role", "command", "agent", "workflow", "source_agent", "target_agent"), text
        )
        track_role_event("handoff.clicked", **one, context={text: text, "task_id": text, "n": text})
        track_role_event(text, role=text)
        hash_pii(text, field="agent")
        with role_session(text, command=text, workflow=text):
            with pytest.raises(SourError):
                fail(text, more=text)
            propagate(lambda: track_role_event("role.selected"))()
        place.environ.update(dict.fromkeys(VARIABLES, text))
        if number % 10 == 0:
            options = [f"--{dice.choice(['role', 'agent', 'command', 'outcome'])}", text]
            record.main(["agent.invoked", *options])
            record.main([text, f"--{text}", "x", "--role", text])
            record.main(["agent.invoked", f"--role={text}", "--project", text])
            track_role_event("role.selected", role="dev", project_root="/" + text)
    kind = type(texts[0], (Exception,), {})
    with pytest.raises(kind), role_session("dev"):
        raise kind(texts[0])


def spellings(secret: str) -> Iterator[str]:
    """Yield a text in each Unicode form and case."""
    forms = [unicodedata.normalize(form, secret) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    for text in dict.fromkeys([secret, *forms]):
        yield from dict.fromkeys([text, text.lower(), text.upper(), text.casefold()])


def encodings(secret: str) -> set[bytes]:
    """Return the byte strings that show that a file contains a text, in each form and encoding.

    `verify` decodes the files instead, so this function is an independent check.
    """
    found: set[bytes] = set()
    if len(secret) < MIN_CHARS:
        return found
    for text in spellings(secret):
        raw = text.encode("utf-8", "surrogatepass")
        found |= {raw, raw.hex().encode(), raw.hex().upper().encode()}
        found |= {text.encode(code, "surrogatepass") for code in ("utf-16-le", "utf-16-be")}
        escaped = json.dumps(text)[1:-1]
        found |= {escaped.encode(), escaped.replace("/", "\\/").encode()}
        found |= {code.encode() for code in percent_codes(raw)}
        found |= base64_codes(raw) | base32_codes(raw)
    return {code for code in found if len(code) >= MIN_CHARS}


def percent_codes(raw: bytes) -> tuple[str, str, str]:
    """Percent-encode all bytes but RFC 3986's unreserved ones, the same without "/", and all."""
    return (
        "".join(chr(b) if b in UNRESERVED else f"%{b:02X}" for b in raw),
        "".join(chr(b) if b in UNRESERVED or b == 0x2F else f"%{b:02X}" for b in raw),
        "".join(f"%{b:02X}" for b in raw),
    )


def base64_codes(raw: bytes) -> set[bytes]:
    """Return the base64 of a text at three alignments, in both alphabets."""
    found = set()
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw)
        # The digits at both ends also encode other bytes, so they are omitted.
        begin = (shift * 8 + 5) // 6
        end = (shift + len(raw)) * 8 // 6
        inner = code[begin:end]
        found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {code for code in found if len(code) >= MIN_CHARS}


def base32_codes(raw: bytes) -> set[bytes]:
    """Return the base32 of a text at five alignments, in both cases."""
    found = set()
    for shift in range(5):
        code = base64.b32encode(b"\0" * shift + raw)
        inner = code[(shift * 8 + 4) // 5 : (shift + len(raw)) * 8 // 5]
        found |= {inner, inner.lower()}
    return {code for code in found if len(code) > MIN_CHARS}


def digits_of(codes: set[bytes]) -> set[bytes]:
    """Return the hex digits that encode a text in one of its forms."""
    encoded = {code.hex().encode() for code in codes if len(code) >= HEX_BYTES}
    return encoded | {c for c in codes if re.fullmatch(rb"[0-9a-f]{%d,}" % (2 * HEX_BYTES), c)}


def encoded_in(digits: bytes, words: dict[str, set[bytes]]) -> set[str]:
    """Return the texts that a run of hex digits contains. `words` has the digits of each text."""
    size = 2 * HEX_BYTES
    # One pass over the digits, for any number of texts.
    heads = {code[:size] for codes in words.values() for code in codes}
    seen = {digits[n : n + size] for n in range(len(digits))} & heads
    return {
        text
        for text, codes in words.items()
        if any(code[:size] in seen and code in digits for code in codes)
    }


def leaks(texts: list[str], tops: list[Path]) -> list[tuple[str, str]]:
    """Return each text that a file or its name contains in any encoding, with the file's name."""
    forms = {text: encodings(text) for text in texts}
    words = {text: digits_of(codes) for text, codes in forms.items()}
    found = []
    for path in (p for top in tops for p in top.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        data += b"\n" + str(path.relative_to(path.anchor)).encode("utf-8", "surrogateescape")
        # The values of a log repeat, so each different one is searched once. Its random hex
        # digits contain any short word by chance, so they are searched separately.
        codes = rb"(?<![0-9a-zA-Z])(?:h:)?[0-9a-f]{12,64}(?![0-9a-zA-Z])"
        text = b"\n".join(sorted(set(re.split(rb'[\n{}\[\]",]+', re.sub(codes, b" ", data)))))
        in_digits = encoded_in(b"".join(re.findall(rb"[0-9a-f]{12,}", data)), words)
        found += [
            (secret, path.name)
            for secret, codes in forms.items()
            if secret in in_digits or any(code in text for code in codes)
        ]
    return found


@pytest.fixture
def temp(place, tmp_path, monkeypatch) -> Path:
    """The directory for temporary files of this process and its children."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    place.environ["TMPDIR"] = str(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("corpus", ["invented", "naughty", "faker"])
def test_no_identity_reaches_a_file(corpus, place, temp) -> None:
    """No file of home, project or TMPDIR contains one of thousands of texts, in any encoding."""
    place.configure(agents=["backend-engineer"], context={"task_id": "identifier", "n": "measure"})
    texts = {
        "invented": lambda: invent(IDENTITIES, 11),
        "naughty": lambda: list(NAUGHTY),
        "faker": lambda: invent_by_faker(IDENTITIES),
    }[corpus]()
    processes = record_in_processes(texts, place, temp)
    recorded = place.types().count("agent.invoked")
    record_everywhere(texts, place)
    long = [text for text in texts if len(text) >= 4]

    assert PROCESSES == processes == recorded
    assert sum(1 for _ in read(place.home)) > 4 * len(texts)
    assert Path(tempfile.gettempdir()) == temp
    assert [] == leaks(long, [place.root, place.user, temp])


def test_the_harness_finds_a_leak(place, temp) -> None:
    """If a file contains a text, the harness finds it, as it is or encoded."""
    (place.root / "leak.txt").write_text("by Wm9yYSBRdWlsbA==")
    (temp / "scratch.txt").write_text("by zora%20quill")

    assert [("Zora Quill", "leak.txt"), ("Zora Quill", "scratch.txt")] == leaks(
        ["Zora Quill"], [place.root, place.user, temp]
    )


@pytest.mark.parametrize("form", ["Zora Quill", "zora quill", "Wm9yYSBRdWlsbA"])
def test_the_harness_decodes_hex_digits(form: str, place) -> None:
    """The harness finds a text in the digits of two ids, also in lower case and in base64."""
    code = form.encode().hex()
    line = f'{{"event_id":"{code[:16]}","project_id":"h:{code[16:].ljust(12, "0")}"}}\n'
    (place.root / "ids.jsonl").write_text(line)

    assert [("Zora Quill", "ids.jsonl")] == leaks(["Zora Quill"], [place.root])
