"""Looking for known texts in bytes: the bytes are brought into every form that a text could have.

Instead of thousands of patterns, a few: data is unescaped, decoded, unpacked and folded, again and
again, and each form is searched for the folded secrets. Nothing found is kept but whose it is.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import quopri
import re
import zlib
from collections.abc import Iterable, Iterator

from telemetry_kit.disguise import MIN_CHARS, fold
from telemetry_kit.proof.known import Secret

MAX_DEPTH = 3
# Of one packed text no more than this is unpacked, of all in one run no more than that, and no
# more text than this is decoded at once.
MAX_UNPACKED_BYTES = 1 << 18
MAX_UNPACKED_BYTES_A_RUN = 2 << 20
MAX_LEVEL_BYTES = 8 << 20
_BATCH_BYTES = 1 << 20
_SHORT_BYTES = 1 << 16
BOUNDED_CHARS = 6
SQUEEZED_CHARS = 8
HEX_BYTES = 6
NUMBER_DIGITS = 6

_LEET = str.maketrans("01345789@$|!i", "oleastbgasill")
_NOT_ALNUM = re.compile(r"[\W_]+")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3})|(/))")
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}[ :,-]?(?:0x|\\x)?){3,}[0-9a-fA-F]{2}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{5,}={0,2}")
_MIME = re.compile(rb"(?:[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]*={0,2}")
_BASE32 = re.compile(rb"[A-Z2-7]{7,}={0,6}|[a-z2-7]{7,}={0,6}")
# A word has one beginning, a delimiter: from each of many it would be read again and again.
_BASE85 = re.compile(
    rb"[0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{5,}|(?<=[\",])[^\s\",]{5,}(?=[\",<])|(?<=>)[^\s>]{5,}(?=</)"
)
# The interpreter makes no number of more than 4,300 digits, and no character has so many.
_LONG_NUMBER = re.compile(r"(?<![0-9])[0-9]{4000,}")
_PUNYCODE = re.compile(rb"xn--([a-z0-9-]{1,256})", re.IGNORECASE)
_PRINTABLE = bytes(range(32, 127)) + b"\n\r\t"

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


class Budget:
    """How much may be unpacked in one run, so that a few packed bytes cost neither time nor memory.

    Args:
        left: bytes that may still be unpacked.
    """

    __slots__ = ("exhausted", "left")

    def __init__(self, left: int = MAX_UNPACKED_BYTES_A_RUN) -> None:
        self.left = left
        self.exhausted = False

    def unpack(self, data: bytes) -> bytes:
        """The content of data packed by zlib or gzip, as far as it may be unpacked.

        Raises:
            zlib.error: it is not packed, or damaged.
        """
        unzip = zlib.decompressobj(47)
        # One byte at least: no limit at all is what zero means.
        content = unzip.decompress(data, max(1, min(MAX_UNPACKED_BYTES, self.left)))
        self.left = max(0, self.left - len(content))
        self.exhausted |= bool(unzip.unconsumed_tail)
        return content


class Search:
    """The secrets to look for.

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
        self.budget = Budget()
        text = "\n".join(fold(word) for word in public)
        names = "\n".join(fold(name) for name in declared)
        self.secrets: list[Secret] = []
        self.declared: list[Secret] = []
        self.set_aside: list[Secret] = []
        for secret in secrets:
            word = fold(secret.text)
            plain = word.strip("/.")
            whole = rf"(?<![^\W_]){re.escape(word)}(?![^\W_])"
            aside = plain in COMMON or (plain.isdigit() and len(plain) < 6)
            aside = aside or _is_day(plain) or (word in text and bool(re.search(whole, text)))
            if not aside and word in names and re.search(whole, names):
                self.declared.append(secret)
                aside = True
            (self.set_aside if aside else self.secrets).append(secret)
        self._needles: list[tuple[str, Secret]] = []
        self._bounded: list[tuple[re.Pattern[str], Secret]] = []
        self._squeezed: list[tuple[str, Secret]] = []
        self._leet: list[tuple[str, Secret]] = []
        self._raw: list[tuple[bytes, Secret]] = []
        self._hex: list[tuple[str, Secret]] = []
        self._coded: list[tuple[bytes, Secret]] = []
        self.digits: dict[str, Secret] = {}
        for secret in self.secrets:
            self._add(secret)

    def _add(self, secret: Secret) -> None:
        word = fold(secret.text)
        forms = dict.fromkeys((word, word[::-1], codecs.encode(word, "rot13")))
        bounded = len(word) < BOUNDED_CHARS and word.isalnum()
        for form in forms:
            if bounded:
                whole = re.compile(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])")
                self._bounded.append((whole, secret))
            else:
                self._needles.append((form, secret))
        squeezed = _squeeze(word)
        if squeezed.isdigit() and len(squeezed) >= NUMBER_DIGITS:
            self.digits[squeezed] = secret
        if len(squeezed) >= SQUEEZED_CHARS:
            self._squeezed += [(form, secret) for form in (squeezed, squeezed[::-1])]
            self._leet.append((squeezed.translate(_LEET), secret))
            if set(squeezed) <= set("0123456789abcdef"):
                self._hex.append((squeezed, secret))
        for encoding in ("utf-16-le", "utf-16-be", "latin-1"):
            raw = secret.text.encode(encoding, "replace")
            if not secret.text.isascii() and b"?" not in raw and len(raw) >= MIN_CHARS:
                self._raw.append((raw, secret))
        raw = secret.text.encode("utf-8", "surrogatepass").lower()
        if len(raw) >= HEX_BYTES:
            self._coded += [(raw, secret), (raw[::-1], secret)]

    def find(self, data: bytes) -> set[Secret]:
        """The secrets that are in `data` in any form.

        Args:
            data: a line, or a whole file.
        """
        found = {secret for raw, secret in self._raw if raw in data}
        level = [data]
        seen = set(level)
        for depth in range(MAX_DEPTH + 1):
            for blob in level:
                self._scan(blob, found)
            if depth == MAX_DEPTH or len(found) == len(self.secrets):
                break
            level = self._deeper(level, seen, depth == 0, found)
        return found

    def _deeper(
        self, level: list[bytes], seen: set[bytes], first: bool, found: set[Secret]
    ) -> list[bytes]:
        """The texts that others stand for; what is no text is searched once, and not decoded.

        Args:
            level: the others.
            seen: long texts that were searched already; filled.
            first: whether these are the bytes of a file.
            found: takes the secrets in what is no text.
        """
        long: list[bytes] = []
        short: dict[bytes, None] = {}
        odd: list[bytes] = []
        text_bytes = odd_bytes = 0
        for piece in (piece for blob in level for piece in decoded(blob, self.budget)):
            if _is_text(piece):
                if piece in seen or piece in short:
                    continue
                text_bytes += len(piece) + 1
                if text_bytes > MAX_LEVEL_BYTES:
                    self.budget.exhausted = True
                    break
                if len(piece) > _SHORT_BYTES:
                    long.append(piece)
                    seen.add(piece)
                else:
                    short[piece] = None
            elif first:
                odd.append(piece)
                odd_bytes += len(piece) + 1
                if odd_bytes > _BATCH_BYTES:
                    self._scan(b"\n".join(odd), found)
                    odd, odd_bytes = [], 0
        self._scan(b"\n".join(odd), found)
        return [*long, b"\n".join(short)] if short else long

    def _scan(self, data: bytes, found: set[Secret]) -> None:
        if not data:
            return
        text = fold(data.decode("utf-8", "replace").replace("\ufffd", " "))
        if "\0" in text:
            text += "\n" + text.replace("\0", "")
        found |= {secret for needle, secret in self._needles if needle in text}
        found |= {secret for whole, secret in self._bounded if whole.search(text)}
        if self._squeezed:
            squeezed = _squeeze(text)
            found |= {secret for needle, secret in self._squeezed if needle in squeezed}
            leet = squeezed.translate(_LEET)
            found |= {secret for needle, secret in self._leet if needle in leet}

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
        for shift in (0, 1):
            end = len(digits) - (len(digits) - shift) % 2
            raw = bytes.fromhex(digits[shift:end]).lower()
            found |= {secret for needle, secret in self._coded if needle in raw}
        return found


def decoded(data: bytes, budget: Budget) -> Iterator[bytes]:
    """What `data`, or words in it, could stand for: unescaped, decoded, unpacked.

    Args:
        data: any bytes.
        budget: how much may be unpacked.
    """
    yield from _unescaped(data)
    yield from _unpacked(data, budget)
    for run in set(_HEX.findall(data)):
        plain = re.sub(rb"0x|\\x|[^0-9a-fA-F]", b"", run)
        for shift in (0, 1):
            end = len(plain) - (len(plain) - shift) % 2
            yield from _with_unpacked(bytes.fromhex(plain[shift:end].decode("ascii")), budget)
    runs = set(_BASE64.findall(data))
    runs |= {re.sub(rb"\s", b"", run) for run in _MIME.findall(data)}
    for run in runs:
        code = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        for shift in range(4):
            yield from _with_unpacked(_base64(code[shift:]), budget)
    for run in set(_BASE32.findall(data)):
        code = run.rstrip(b"=").upper()
        for shift in range(8):
            yield from _with_unpacked(_base32(code[shift:]), budget)
    for run in set(_BASE85.findall(data)):
        for word in {run, *run.split(b"<"), *re.split(rb"</?\w+>", run)}:
            for decode in (base64.b85decode, base64.a85decode):
                try:
                    yield from _with_unpacked(decode(word), budget)
                except (ValueError, OverflowError):
                    continue
    for name in set(_PUNYCODE.findall(data)):
        try:
            yield name.decode("ascii").encode("ascii").decode("punycode").encode()
        except (UnicodeError, ValueError, OverflowError):
            continue


def _unescaped(data: bytes) -> Iterator[bytes]:
    if b"\\" in data:
        yield _joined_surrogates(_ESCAPE.sub(_escape, data))
    if b"%" in data:
        yield _PERCENT.sub(lambda m: bytes.fromhex(m[1].decode("ascii")), data)
    if b"&" in data:
        text = _LONG_NUMBER.sub("", data.decode("utf-8", "surrogateescape"))
        yield html.unescape(text).encode("utf-8", "replace")
    if b"=" in data:
        yield quopri.decodestring(data)


def _escape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return chr(int(match[1], 16)).encode("utf-8", "surrogatepass")
    if match[4]:
        return b"/"
    return bytes([int(match[2], 16) if match[2] else int(match[3], 8) & 0xFF])


def _joined_surrogates(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8", "surrogatepass")
        return text.encode("utf-16", "surrogatepass").decode("utf-16").encode()
    except UnicodeError:
        return data


def _with_unpacked(piece: bytes, budget: Budget) -> Iterator[bytes]:
    if len(piece) >= MIN_CHARS:
        yield piece
        yield from _unpacked(piece, budget)


def _unpacked(data: bytes, budget: Budget) -> Iterator[bytes]:
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        try:
            yield budget.unpack(data)
        except zlib.error:
            return


def _base64(code: bytes) -> bytes:
    # One digit behind the last four says less than a byte.
    code = code[: len(code) - (len(code) % 4 == 1)]
    return binascii.a2b_base64(code + b"=" * (-len(code) % 4))


def _base32(code: bytes) -> bytes:
    while len(code) % 8 in (1, 3, 6):
        code = code[:-1]
    try:
        return base64.b32decode(code + b"=" * (-len(code) % 8))
    except binascii.Error:
        return b""


def _is_text(piece: bytes) -> bool:
    odd = len(piece.translate(None, _PRINTABLE))
    if odd * 8 <= len(piece):
        return True
    try:
        return piece.decode("utf-8").isprintable()
    except UnicodeError:
        return False


def _is_day(word: str) -> bool:
    return re.fullmatch(r"\d{4}([-_.]?\d{2}){1,2}", word) is not None


def _squeeze(text: str) -> str:
    return _NOT_ALNUM.sub("", text)
