"""The work of `verify`: it grows with the bytes, within one budget of decoded bytes."""

import base64
import gzip
import random
import re
import string
import time

import pytest

from telemetry_kit.storage import compression
from telemetry_kit.storage import parser as journal_lines
from telemetry_kit.verification import grammar, machine_secrets, records, search, texts
from telemetry_kit.verification.machine_secrets import Secret
from telemetry_kit.verification.recognisers import recognise
from telemetry_kit.verification.search import Search

# These texts begin a match many times and never end it, which is slow for a poor pattern.
UNITS = {
    "eyJ": b"eyJ",
    "token, no end": b"eyJaaaaaaaaa.",
    "tags": b">.",
    "quotes": b'".a',
    "commas": b",.",
    "addresses": b"a@",
    "dots": b"1.",
    "capitals": b"AAAA ",
    "iban": b"AA11AAAAAAAAAAAAAAAAAAAAAAAAAAAAA!",
    "digits": b"1",
    "letters": b"a",
    "cards": b"4111-",
    "phones": b"+1 (",
    "colons": b"a:",
    "urls": b"http://a:",
    "backslashes": b"\\",
    "shares": b"\\\\a",
    "hex": b"aa0x",
    "entities": b"&#65",
    "ampersands": b"&",
    "percents": b"%4",
    "equals": b"=",
    "less": b"</a",
    "spaces": b" ",
    "tabs": b"\t",
    "lines": b"\n",
    "base85": b"!#$%&",
    "punycode": b"xn--a",
    "accents": "\u0301".encode(),
    "quoted": b'\\"',
    "nested": b"[",
    "braces": b'{"a":',
    "NULs": b"\0",
    "random": random.Random(5).randbytes(1_000),
}
BEFORE = [b"", b"bearer ", b"password ", b"-----BEGIN ", b"a@", b"SG.", b"name = ", b'"', b"xn--"]


def cost(work) -> float:
    """Return the least processor time of three runs."""
    found = []
    for _ in range(3):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def is_linear(work, size: int) -> bool:
    """Return whether four times the bytes take less than nine times the time."""
    return cost(lambda: work(4 * size)) < 9 * cost(lambda: work(size)) + 0.1


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_patterns_are_linear(unit: bytes) -> None:
    """Search and recognisers take time in proportion to the bytes."""
    secrets = [Secret("user", text) for text in ("zora", "quillfeather", "zora@quill.example")]

    def work(size: int) -> None:
        data = (unit * (size // len(unit) + 1))[:size]
        Search(secrets).find(data)
        list(recognise(data.decode("utf-8", "replace")))

    assert is_linear(work, 20_000)


@pytest.mark.parametrize("before", BEFORE[1:], ids=str)
def test_patterns_are_linear_after_a_prefix(before: bytes) -> None:
    """The same holds if many characters of one kind follow the beginning of a match."""

    def work(size: int) -> None:
        for unit in (b" ", b"a", b"A ", b"1", b"1.", b"-", b"a@"):
            data = before + unit * (size // len(unit))
            list(recognise(data.decode()))
            for _ in search.decoded(data):
                continue

    assert is_linear(work, 8_000)


PATTERNS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": pattern
    for module in (machine_secrets, records, search, texts, grammar, journal_lines)
    for name, pattern in vars(module).items()
    if isinstance(pattern, re.Pattern)
}
PATTERNS |= {f"records.{name}": re.compile(text) for name, text in records._ENTRY.items()}


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_every_pattern_is_linear(pattern) -> None:
    """Each pattern takes time in proportion to the text, also if it does not match."""
    dice = random.Random(9)
    units = [*UNITS.values(), b"context=a:=x", b"a:=xx,", b" <a> ", b"name = ", b"0" * 40 + b" "]
    units += ["".join(dice.choices(string.printable, k=3)).encode() for _ in range(10)]
    is_text = isinstance(pattern.pattern, str)

    def work(size: int) -> None:
        for unit in units:
            for before in (b"", b"context=a:=", b"0" * 40 + b" " + b"0" * 40 + b" "):
                data = before + unit * (size // len(unit)) + b"!"
                given = data.decode("utf-8", "replace") if is_text else data
                pattern.fullmatch(given)
                for _ in pattern.finditer(given):
                    continue

    assert is_linear(work, 2_000)


LONG = """
import base64, random, resource, zlib
from telemetry_kit.verification.machine_secrets import Secret
from telemetry_kit.verification.search import Search

packed = zlib.compressobj(9)
bomb = b"".join(packed.compress(bytes(1 << 20)) for _ in range(40)) + packed.flush()
codes = [base64.b64encode(bomb), base64.b64encode(random.Random(1).randbytes(3 << 18))]
codes += [b"%41" * (1 << 18), b"41" * (1 << 19), b"MFWW" * (1 << 18)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
search = Search([Secret("user", "quillfeather")])
for code in codes:
    search.find(code)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_encoded_text_costs_little_memory(undecided) -> None:
    """Batches of 1 MiB of encoded or compressed text are searched in less than 100 MiB."""
    done = undecided.run(LONG)

    assert (0, "") == (done.returncode, done.stderr)
    assert int(done.stdout) < 100 << 10


def test_one_budget_for_a_run(make_verification, tmp_path, monkeypatch) -> None:
    """All files share one budget of decoded bytes. A run that exceeds it fails."""
    monkeypatch.setattr(search, "MAX_DECODED_BYTES", 1 << 18)
    paths = []
    for number in range(10):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(base64.b64encode(bytes([48 + number]) * 30_000))
        paths.append(str(path))
    whole, part = make_verification(["quillfeather"]), make_verification(["quillfeather"])
    certificate = whole.run(paths)

    assert ([], False) == (certificate.findings, certificate.passed)
    assert 1 == len(certificate.unsearched)
    assert part.run(paths[:1]).passed


def test_a_secret_is_found_before_the_budget_is_used_up(
    make_verification, tmp_path, monkeypatch
) -> None:
    """A secret in the decoded part is found, and one in plain text always."""
    monkeypatch.setattr(search, "MAX_DECODED_BYTES", 1 << 17)
    found = []
    for text in (base64.b64encode(b"x" * 1_000 + b" quillfeather "), b"quillfeather"):
        path = tmp_path / "out.txt"
        path.write_bytes(text + b"\n" + base64.b64encode(bytes(range(256)) * 1_000))
        found.append(make_verification(["quillfeather"]).run([str(path)]).findings)

    assert all(found)


def test_a_decompression_bomb_is_stopped(make_verification, tmp_path, monkeypatch) -> None:
    """A gzip file that is too large after decompression is read up to the limit, and fails."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1 << 16)
    path = tmp_path / "out.gz"
    path.write_bytes(gzip.compress(b"\n" * (1 << 21)))
    certificate = make_verification(["quillfeather"]).run([str(path)])

    assert any("larger than an archive may be" in told for told in certificate.unsearched)
    assert not certificate.passed
    assert certificate.files[-1].lines < 1 << 20


def test_a_long_line_through_the_command(place, tmp_path) -> None:
    """The command reads a line of 200 kB with many beginnings of a token in a few seconds."""
    path = tmp_path / "out.txt"
    path.write_bytes(b"eyJ" * 66_000 + b"\n" + b">." * 20_000)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (30, 30));"
        "from telemetry_kit.cli import main; sys.argv = ['telemetry-kit', '--app', 'flowspec', "
        f"'verify', {str(path)!r}]; sys.exit(main())"
    )
    done = place.run(code)

    assert 0 == done.returncode, done.stdout + done.stderr
