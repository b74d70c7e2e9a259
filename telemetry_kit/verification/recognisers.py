"""Patterns of personal data and of secrets, for files without a grammar.

They miss some data, and a match can be a coincidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_WORD16 = r"[0-9a-fA-F]{1,4}"
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("e-mail", r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[^\W\d_]{2,24}"),
    (
        "home path",
        r"(?:/home/|/Users/|/var/home/|[A-Za-z]:[\\/]{1,4}Users[\\/]{1,4})[^\s/\\\"'<>:;,]+",
    ),
    ("network path", r"\\\\{1,3}[\w.-]+\\{1,2}[\w$.-]+"),
    ("IPv4 address", rf"(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?![\w.])"),
    (
        "IPv6 address",
        (
            rf"(?<![\w:])(?:(?:{_WORD16}:){{7}}{_WORD16}|(?:{_WORD16}:){{1,6}}(?::{_WORD16}){{1,6}}"
            rf"|(?:{_WORD16}:){{2,7}}:)(?![\w:])"
        ),
    ),
    ("MAC address", r"(?<![\w:-])(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?![\w:-])"),
    ("private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY"),
    (
        "JSON Web Token",
        (
            # It begins at a border of words, which keeps the search linear.
            r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{0,32}?eyJ[A-Za-z0-9_-]{8,}"
            r"\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"
        ),
    ),
    (
        "URL with credentials",
        r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{1,128}:[^\s/@\"']{1,128}@",
    ),
    ("AWS key", r"(?<![A-Z0-9])(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Z0-9])"),
    ("GitHub token", r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"),
    ("GitLab token", r"gl(?:pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{16,}"),
    ("Slack token", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/\w+"),
    ("Stripe key", r"[rsp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9]{16,}"),
    ("Google key", r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"),
    ("AI service key", r"(?<![\w-])sk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}"),
    ("registry token", r"npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|dckr_pat_[\w-]{20,}"),
    ("mail service key", r"SG\.[\w-]{16,}\.[\w-]{16,}|(?<!\w)key-[0-9a-f]{32}"),
    ("Azure key", r"AccountKey=[A-Za-z0-9+/]{40,}|SharedAccessSignature|sig=[A-Za-z0-9%]{40,}"),
    ("bot token", r"(?<!\d)\d{8,10}:[A-Za-z0-9_-]{35}(?![\w-])"),
    (
        "vendor token",
        r"(?:dop_v1_|shpat_|shpss_|sq0atp-|sq0csp-|hvs\.|lin_api_|figd_)[A-Za-z0-9_.-]{20,}",
    ),
    (
        "authorization header",
        r"(?i:authorization:|bearer|basic)\s+(?=[A-Za-z._~+/-]*\d)[A-Za-z0-9._~+/-]{16,}",
    ),
    (
        "assigned secret",
        (
            r"(?i:password|passwd|pwd|secret|api_?key|access_?token)[\"']?\s*[:=]\s*[\"']?"
            r"[^\s\"',;{}()<>]{6,}"
        ),
    ),
    (
        "phone number",
        (
            r"(?<![\w+.])(?:\+|00)[1-9]\d{0,2}[\s./()-]{0,2}(?:\d[\s./()-]{0,2}){6,13}\d(?!\w)"
            r"|(?<!\w)\(\d{2,5}\)[\s-]?\d{3,4}[\s-]?\d{3,5}(?!\w)"
            r"|(?<![\w.-])\d{3}[-. ]\d{3}[-. ]\d{4}(?![\w.-])"
        ),
    ),
    ("payment card", r"(?<![\w.])[3-6]\d{3}(?:[ -]?\d{3,6}){2,4}(?![\w.])"),
    ("IBAN", r"(?<!\w)[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?!\w)"),
)
PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _PATTERNS)
# Ids of exported events and parts of them in torn lines are random, so some resemble a number.
_OWN_ID = re.compile(
    r"(?<![0-9a-zA-Z])(?:h:[0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{12})(?![0-9a-zA-Z])"
    r'|(?<=_id":")[0-9a-f]{1,15}$|(?<=":")h:[0-9a-f]{1,11}$',
    re.MULTILINE,
)


def recognise(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each match.

    Args:
        text: any text.
    """
    # 16 digits are a card number more often than an id: of those, one in 1,800 has no letter.
    plain = _OWN_ID.sub(lambda own: own[0] if own[0].isdigit() and luhn(own[0]) else " ", text)
    for kind, pattern in PATTERNS:
        check = _CHECKS.get(kind)
        for match in pattern.finditer(plain):
            if check is None or check(re.sub(r"[ -]", "", match[0])):
                yield kind, match[0]


def luhn(digits: str) -> bool:
    """Return whether the check digit of a payment card number is right (ISO/IEC 7812-1)."""
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 3:
        return False
    twice = str.maketrans("0123456789", "0246813579")
    total = sum(map(int, digits[-1::-2])) + sum(map(int, digits[-2::-2].translate(twice)))
    return total % 10 == 0


def iban(text: str) -> bool:
    """Return whether the check digits of an IBAN are right (ISO 13616: modulo 97 is 1)."""
    if not 15 <= len(text) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


_CHECKS: dict[str, Callable[[str], bool]] = {"payment card": luhn, "IBAN": iban}
