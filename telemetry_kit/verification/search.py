"""Search bytes for known texts: decode them once from each encoding, and fold the case.

Only the owner of each match is kept.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator

from telemetry_kit.verification.encodings import fold
from telemetry_kit.verification.machine_secrets import Secret

# More than this is not decoded in one run of `verify`. It takes about ten minutes.
MAX_DECODED_BYTES = 1 << 30
BOUNDED_CHARS = 6
HEX_CHARS = 8
HEX_BYTES = 6
NUMBER_DIGITS = 6

_BATCH_BYTES = 1 << 20
_NOT_ALNUM = re.compile(r"[\W_]+")
_JSON_ESCAPE = re.compile(rb'\\(?:u([0-9a-fA-F]{4})|(["\\/]))')
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}[ :-]?){3,}[0-9a-fA-F]{2}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{5,}")
_BASE32 = re.compile(rb"[A-Z2-7]{7,}|[a-z2-7]{7,}")
# The interpreter reads numbers of base 32 with the digits 0 to 9 and A to V.
_AS_DIGITS = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567abcdefghijklmnopqrstuvwxyz",
    b"0123456789ABCDEFGHIJKLMNOPQRSTUV0123456789ABCDEFGHIJKLMNOP",
)

# Words that are names of users, folders and branches on many machines and words of any report.
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


class Search:
    """The secrets to look for, with one budget of decoded bytes for all that is searched.

    `exhausted` is true once something was not decoded.

    Args:
        secrets: what to look for.
        public: texts that anybody may know; a secret that is a word of one is set aside.
        declared: names that the tool, the project or the user declared: the same.
    """

    def __init__(
        self,
        secrets: Iterable[Secret],
        public: Iterable[str] = (),
        declared: Iterable[str] = (),
    ) -> None:
        self._left = MAX_DECODED_BYTES
        self.exhausted = False
        text = "\n".join(fold(word) for word in public)
        names = "\n".join(fold(name) for name in declared)
        self.secrets: list[Secret] = []
        self.declared: list[Secret] = []
        self.set_aside: list[Secret] = []
        for secret in secrets:
            word = fold(secret.text)
            plain = word.strip("/.")
            aside = plain in COMMON or (plain.isdigit() and len(plain) < NUMBER_DIGITS)
            aside = aside or _is_day(plain) or (word in text and bool(_whole(word).search(text)))
            if not aside and word in names and _whole(word).search(names):
                self.declared.append(secret)
                aside = True
            (self.set_aside if aside else self.secrets).append(secret)
        self._needles: list[tuple[str, Secret]] = []
        self._bounded: list[tuple[re.Pattern[str], Secret]] = []
        self._utf16: list[tuple[bytes, Secret]] = []
        self._hex: list[tuple[str, Secret]] = []
        self._coded: list[tuple[bytes, Secret]] = []
        self.digits: dict[str, Secret] = {}
        for secret in self.secrets:
            self._add(secret)

    def _add(self, secret: Secret) -> None:
        word = fold(secret.text)
        if len(word) < BOUNDED_CHARS and word.isalnum():
            self._bounded.append((_whole(word), secret))
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
            self._coded.append((raw, secret))

    def find(self, data: bytes) -> set[Secret]:
        """The secrets that are in `data` in one of the forms of `encodings.FORMS`.

        Args:
            data: a line, or a whole file.
        """
        found = {secret for raw, secret in self._utf16 if raw in data} | self._scan(data)
        batch: list[bytes] = []
        size = 0
        for piece in decoded(data):
            if len(piece) > self._left:
                self.exhausted = True
                break
            self._left -= len(piece)
            batch.append(piece)
            size += len(piece)
            if size > _BATCH_BYTES:
                found |= self._scan(b"\n".join(batch))
                batch, size = [], 0
        return found | self._scan(b"\n".join(batch))

    def _scan(self, data: bytes) -> set[Secret]:
        text = fold(data.decode("utf-8", "replace").replace("\ufffd", " "))
        if "\0" in text:
            text += "\n" + text.replace("\0", "")
        found = {secret for needle, secret in self._needles if needle in text}
        return found | {secret for whole, secret in self._bounded if whole.search(text)}

    def find_joined(self, values: Iterable[str]) -> set[Secret]:
        """The secrets that the values spell one after the other.

        Args:
            values: strings in the order in which they stand.
        """
        text = fold("".join(values))
        found = {secret for needle, secret in self._needles if needle in text}
        return found | {s for needle, s in self._bounded if needle.fullmatch(text)}

    def find_hex(self, digits: str) -> set[Secret]:
        """The secrets that hex digits spell: as digits, or as the bytes that these stand for.

        Args:
            digits: of many fields, one after the other.
        """
        found = {secret for needle, secret in self._hex if needle in digits}
        for raw in map(bytes.lower, _from_hex(digits)):
            found |= {secret for needle, secret in self._coded if needle in raw}
        return found


def decoded(data: bytes) -> Iterator[bytes]:
    """What `data`, or words in it, stand for in URL, JSON, hex, base64 and base32.

    Args:
        data: any bytes.
    """
    if b"%" in data:
        yield _PERCENT.sub(lambda m: bytes.fromhex(m[1].decode("ascii")), data)
    if b"\\" in data:
        yield _joined_surrogates(_JSON_ESCAPE.sub(_unescaped, data))
    for run in dict.fromkeys(_HEX.findall(data)):
        yield from _from_hex(run.translate(None, b" :-").decode("ascii"))
    for run in dict.fromkeys(_BASE64.findall(data)):
        code = run.translate(bytes.maketrans(b"-_", b"+/"))
        # The code may begin behind other letters.
        for start in range(4):
            yield _from_base64(code[start:])
    for run in dict.fromkeys(_BASE32.findall(data)):
        for start in range(8):
            yield _from_base32(run[start:])


def _unescaped(match: re.Match[bytes]) -> bytes:
    return chr(int(match[1], 16)).encode("utf-8", "surrogatepass") if match[1] else match[2]


def _joined_surrogates(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8", "surrogatepass")
        return text.encode("utf-16", "surrogatepass").decode("utf-16").encode()
    except UnicodeError:
        return data


def _from_hex(digits: str) -> Iterator[bytes]:
    for start in (0, 1):
        end = len(digits) - (len(digits) - start) % 2
        yield bytes.fromhex(digits[start:end])


def _from_base64(code: bytes) -> bytes:
    # One digit behind the last four says less than a byte.
    code = code[: len(code) - (len(code) % 4 == 1)]
    return binascii.a2b_base64(code + b"=" * (-len(code) % 4))


def _from_base32(code: bytes) -> bytes:
    bits = 5 * len(code)
    number = int(b"0" + code.translate(_AS_DIGITS), 32)
    return (number >> bits % 8).to_bytes(bits // 8, "big")


def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")


def _is_day(word: str) -> bool:
    return re.fullmatch(r"\d{4}([-_.]?\d{2}){1,2}", word) is not None
