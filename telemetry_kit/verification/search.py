"""Search bytes for known texts, in plain text and in each of `FORMS`.

The search decodes each encoded run once and ignores letter case. It returns the texts that it
found, without their positions.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Iterable, Iterator

from telemetry_kit.verification.machine_secrets import Secret

FORMS = ("plain", "folded", "URL", "JSON", "hex", "base64", "base32", "UTF-16")
# One run of `verify` decodes at most this much, which takes about ten minutes.
MAX_DECODED_BYTES = 1 << 30
BOUNDED_CHARS = 6
HEX_CHARS = 8
HEX_BYTES = 6
NUMBER_DIGITS = 6

_BATCH_BYTES = 1 << 20
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_NOT_ALNUM = re.compile(r"[\W_]+")
_DAY = re.compile(r"\d{4}([-_.]?\d{2}){1,2}")
_JSON_ESCAPE = re.compile(rb'((?:\\u[0-9a-fA-F]{4})+)|\\(["\\/bfnrt])')
_CONTROLS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}[ :-]?){3,}[0-9a-fA-F]{2}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{5,}")
_BASE32 = re.compile(rb"[A-Z2-7]{7,}|[a-z2-7]{7,}")
# `int(digits, 32)` reads the digits 0 to 9 and A to V.
_AS_DIGITS = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567abcdefghijklmnopqrstuvwxyz",
    b"0123456789ABCDEFGHIJKLMNOPQRSTUV0123456789ABCDEFGHIJKLMNOP",
)

# Names of users, folders and branches on many machines that are also words of many reports.
_COMMON = """
    root home user users main work works tmp temp code project projects master trunk develop dev
    test tests testing data host local localhost localdomain admin administrator guest nobody
    default workspace workspaces build builds builder release releases app apps application web
    docs documents desktop downloads source sources repos repo repository git github gitlab src
    public private shared share mnt media volumes var lib library opt srv run data1 python java
    node package packages server client service services frontend backend agent agents runner
    ubuntu debian fedora alpine centos vagrant docker container containers ec2-user jenkins
    true false none null empty yes file files name names table style script value values title
    body head header footer text time date count total event events role roles command commands
    workflow session telemetry dashboard report reports export exports example examples demo
    http https origin feature features hotfix staging production prod stage auto info debug
    error errors warning console system config configuration settings state cache month week
    today hour hours days minute second version feature latest stable next beta alpha team
    github.com gitlab.com bitbucket.org example.com
"""
COMMON = frozenset(_COMMON.split())


def fold(text: str) -> str:
    """Reduce a text to one case and one Unicode form, without accents and invisible characters."""
    if text.isascii():
        return text.lower()
    text = _FOREIGN.sub(
        lambda match: "" if unicodedata.category(match[0]) in ("Mn", "Cf") else match[0],
        unicodedata.normalize("NFKD", text),
    )
    return text.casefold()


def select(
    secrets: Iterable[Secret], public: Iterable[str] = (), declared: Iterable[str] = ()
) -> tuple[list[Secret], list[Secret], list[Secret]]:
    """Divide secrets into those to search for and those that are public words.

    Args:
        secrets: the secrets of this machine.
        public: public texts. A secret that is a word of one is set aside.
        declared: names that the tool, the project or the user declared. The same applies.

    Returns:
        The secrets to search for, the ones set aside, and those of the latter that are words of
        declared names.
    """
    searched, set_aside, in_names = [], [], []
    text = "\n".join(map(fold, public))
    names = "\n".join(map(fold, declared))
    for secret in secrets:
        word = fold(secret.text)
        plain = word.strip("/.")
        is_number = plain.isdigit() and len(plain) < NUMBER_DIGITS
        if plain in COMMON or is_number or _DAY.fullmatch(plain) or has_word(text, word):
            set_aside.append(secret)
        elif has_word(names, word):
            set_aside.append(secret)
            in_names.append(secret)
        else:
            searched.append(secret)
    return searched, set_aside, in_names


class Search:
    """A search for some texts, with one budget of decoded bytes.

    `exhausted` is true once the budget was too small to decode everything.

    Args:
        secrets: the texts to search for.
        whole_words: find a text shorter than `BOUNDED_CHARS` only as a whole word.
    """

    def __init__(self, secrets: Iterable[Secret], whole_words: bool = True) -> None:
        self._left_bytes = MAX_DECODED_BYTES
        self.exhausted = False
        self.digits: dict[str, Secret] = {}
        self._needles: list[tuple[str, Secret]] = []
        self._words: list[tuple[re.Pattern[str], Secret]] = []
        self._utf16: list[tuple[bytes, Secret]] = []
        self._hex: list[tuple[str, Secret]] = []
        self._bytes: list[tuple[bytes, Secret]] = []
        for secret in secrets:
            word = fold(secret.text)
            if whole_words and len(word) < BOUNDED_CHARS and word.isalnum():
                self._words.append((word_pattern(word), secret))
            else:
                self._needles.append((word, secret))
            digits = _NOT_ALNUM.sub("", word)
            if digits.isdigit() and len(digits) >= NUMBER_DIGITS:
                self.digits[digits] = secret
            if len(digits) >= HEX_CHARS and set(digits) <= set("0123456789abcdef"):
                self._hex.append((digits, secret))
            if not secret.text.isascii():
                for encoding in ("utf-16-le", "utf-16-be"):
                    self._utf16.append((secret.text.encode(encoding, "surrogatepass"), secret))
            raw = secret.text.encode("utf-8", "surrogatepass").lower()
            if len(raw) >= HEX_BYTES:
                self._bytes.append((raw, secret))

    def find(self, data: bytes) -> set[Secret]:
        """Return the secrets that `data` holds in one of `FORMS`.

        Args:
            data: a line, or a whole file.
        """
        found = {secret for raw, secret in self._utf16 if raw in data} | self.scan(data)
        batch: list[bytes] = []
        size = 0
        for piece in decoded(data):
            if len(piece) > self._left_bytes:
                self.exhausted = True
                break
            self._left_bytes -= len(piece)
            batch.append(piece)
            size += len(piece)
            if size > _BATCH_BYTES:
                found |= self.scan(b"\n".join(batch))
                batch, size = [], 0
        return found | self.scan(b"\n".join(batch))

    def scan(self, data: bytes) -> set[Secret]:
        """Return the secrets that `data` holds as text in UTF-8 or UTF-16."""
        text = fold(data.decode("utf-8", "replace").replace("\ufffd", " "))
        if "\0" in text:
            text += "\n" + text.replace("\0", "")
        found = {secret for needle, secret in self._needles if needle in text}
        return found | {secret for word, secret in self._words if word.search(text)}

    def find_joined(self, values: Iterable[str]) -> set[Secret]:
        """Return the secrets that the values spell if they are joined.

        Args:
            values: strings in their order in the file.
        """
        text = fold("".join(values))
        found = {secret for needle, secret in self._needles if needle in text}
        return found | {secret for word, secret in self._words if word.fullmatch(text)}

    def find_hex(self, digits: str) -> set[Secret]:
        """Return the secrets that hex digits spell, as digits or as bytes.

        Args:
            digits: the digits of many fields, joined.
        """
        found = {secret for needle, secret in self._hex if needle in digits}
        for raw in map(bytes.lower, from_hex(digits)):
            found |= {secret for needle, secret in self._bytes if needle in raw}
        return found


def decoded(data: bytes) -> Iterator[bytes]:
    """Decode `data`, or runs in it, from URL, JSON, hex, base64 and base32.

    Args:
        data: any bytes.
    """
    if b"%" in data:
        yield _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), data)
    if b"\\" in data:
        yield _JSON_ESCAPE.sub(unescape, data)
    for run in dict.fromkeys(_HEX.findall(data)):
        yield from from_hex(run.translate(None, b" :-").decode("ascii"))
    for run in dict.fromkeys(_BASE64.findall(data)):
        code = run.translate(bytes.maketrans(b"-_", b"+/"))
        # Other letters may precede the code in the run.
        for start in range(4):
            # A single digit after a group of four holds less than one byte.
            end = len(code) - ((len(code) - start) % 4 == 1)
            yield binascii.a2b_base64(code[start:end] + b"=" * (-(end - start) % 4))
    for run in dict.fromkeys(_BASE32.findall(data)):
        for start in range(8):
            bits = 5 * (len(run) - start)
            number = int(b"0" + run[start:].translate(_AS_DIGITS), 32)
            yield (number >> bits % 8).to_bytes(bits // 8, "big")


def unescape(match: re.Match[bytes]) -> bytes:
    """Return the characters of a run of JSON escapes, in UTF-8."""
    if match[1] is None:
        return _CONTROLS.get(match[2], match[2])
    units = bytes.fromhex(match[1].replace(b"\\u", b"").decode("ascii"))
    return units.decode("utf-16-be", "replace").encode()


def from_hex(digits: str) -> Iterator[bytes]:
    """Decode hex digits from the first and from the second digit on."""
    for start in (0, 1):
        end = len(digits) - (len(digits) - start) % 2
        yield bytes.fromhex(digits[start:end])


def has_word(text: str, word: str) -> bool:
    """Return whether a folded text holds a folded word between two borders of words."""
    return word in text and word_pattern(word).search(text) is not None


def word_pattern(word: str) -> re.Pattern[str]:
    """Compile the pattern of a whole word."""
    return re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")
