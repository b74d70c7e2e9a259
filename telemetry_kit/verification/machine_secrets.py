"""This machine's own secrets during one check: the user, the machine, git and the environment.

They are read from files and the environment, without running a program or opening a connection.
They are in memory only: no secret is ever printed, hashed into a file, or kept.
"""

from __future__ import annotations

import math
import os
import pwd
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.verification.encodings import MIN_CHARS

_SECRET_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|COOKIE|PRIVATE|SIGNATURE|DSN|WEBHOOK|(?:^|_)PIN(?:_|$)"
    r"|^EMAIL$|^GIT_(?:AUTHOR|COMMITTER)_(?:NAME|EMAIL)$|_URL$|_USER(?:NAME)?$|^USERNAME$"
)
_OUR_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")
_TOKEN = re.compile(r"[A-Za-z0-9+/_=.~-]{16,200}")
_IDENTITY = re.compile(
    rb"^[0-9a-f]{40,64} [0-9a-f]{40,64} ([^<>\n]*) <([^<>\n]*)> \d+ [+-]\d{4}", re.MULTILINE
)
_CONFIG_LINE = re.compile(
    r"^[ \t]*(name|email|url|pushurl|user|username)[ \t]*=(.+)$", re.IGNORECASE | re.MULTILINE
)
_REMOTE_PART = re.compile(r"[/:@]")
_ENTROPY_BITS = 3.5
_MAX_BYTES = 1 << 16
# All hashes of one without a key take most of a megabyte.
MAX_SECRETS = 400


@dataclass(frozen=True, slots=True)
class Secret:
    """One text that must stand in no file.

    Args:
        kind: what it is: `user`, `home`, `host`, `git identity`, `git remote`, `git branch`,
            `directory`, `machine id`, `network address`, `environment`.
        text: the text itself.
    """

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"Secret({self.kind!r}, {len(self.text)} characters)"


def gather(home: ProjectPaths, environ: Mapping[str, str], start: str) -> list[Secret]:
    """Every secret of 4 characters and more, once; the first `MAX_SECRETS` of them.

    Args:
        home: the project's places.
        environ: the environment variables.
        start: the working directory.
    """
    found: dict[str, Secret] = {}
    for kind, raw in _all(home, environ, start):
        text = raw.strip()
        if len(text) >= MIN_CHARS and text not in found and len(set(text)) > 1:
            found[text] = Secret(kind, text)
        if len(found) == MAX_SECRETS:
            break
    return list(found.values())


def _all(home: ProjectPaths, environ: Mapping[str, str], start: str) -> Iterator[tuple[str, str]]:
    yield from _user(environ)
    yield from _host()
    yield from _git(home, environ, start)
    for path in (start, home.root):
        yield "directory", path
        for part in path.split("/"):
            yield "directory", part
    yield from _machine()
    yield from _environment(environ)


def _user(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        yield "user", environ.get(name, "")
    folders = [environ.get("HOME", "")]
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        pass
    else:
        yield "user", entry.pw_name
        full = entry.pw_gecos.split(",")[0]
        for part in (full, *full.split()):
            yield "user", part
        folders.append(entry.pw_dir)
    for folder in folders:
        yield "home", folder
        for part in folder.split("/"):
            yield "home", part


def _host() -> Iterator[tuple[str, str]]:
    for name in (os.uname().nodename, _read("/etc/hostname")):
        yield "host", name
        yield "host", name.partition(".")[0]


def _machine() -> Iterator[tuple[str, str]]:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        yield "machine id", _read(path)
    cards = "/sys/class/net"
    for card in _names(cards):
        address = _read(f"{cards}/{card}/address").strip()
        if address.strip("0:"):
            yield "network address", address
            yield "network address", address.replace(":", "")
            yield "network address", address.replace(":", "-")
    trie = _read("/proc/net/fib_trie")
    for address in re.findall(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL", trie):
        if not address.startswith("127."):
            yield "network address", address
    for line in _read("/proc/net/if_inet6").splitlines():
        digits = line.split()[0]
        if digits.strip("0") not in ("", "1"):
            yield "network address", digits
            yield "network address", _colons(digits)


def _colons(digits: str) -> str:
    """32 hex digits as the short form of an IPv6 address (RFC 5952)."""
    words = [digits[at : at + 4].lstrip("0") or "0" for at in range(0, len(digits), 4)]
    text = ":".join(words)
    longest = max(re.findall(r"(?:^|:)(?:0(?::|$)){2,}", text), key=len, default="")
    return text.replace(longest, "::", 1) if longest else text


# -- git, without git --------------------------------------------------------------------------


def _git(home: ProjectPaths, environ: Mapping[str, str], start: str) -> Iterator[tuple[str, str]]:
    user = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or f"{user}/.config"
    for path in (f"{user}/.gitconfig", f"{config}/git/config", environ.get("GIT_CONFIG_GLOBAL")):
        if path:
            yield from _git_config(_read(path))
    for folder in dict.fromkeys([*_repositories(start), *_repositories(home.root)]):
        yield from _git_config(_read(f"{folder}/config"))
        head = _read(f"{folder}/HEAD").strip()
        branch = head.removeprefix("ref: refs/heads/")
        if branch != head:
            yield "git branch", branch
            for part in branch.split("/"):
                yield "git branch", part
        for name, email in set(_IDENTITY.findall(_tail(f"{folder}/logs/HEAD"))):
            yield from _identity(name.decode("utf-8", "replace"))
            yield from _identity(email.decode("utf-8", "replace"))


def _repositories(start: str) -> Iterator[str]:
    """The git directories of a folder and those above it; of a worktree also its main one."""
    at = start
    while True:
        place = f"{at.rstrip('/')}/.git"
        if os.path.isdir(place):
            yield place
        elif _read(place).startswith("gitdir: "):
            folder = os.path.join(at, _read(place)[8:].strip())
            yield folder
            common = _read(f"{folder}/commondir").strip()
            if common:
                yield os.path.normpath(os.path.join(folder, common))
        above = os.path.dirname(at)
        if above == at:
            return
        at = above


def _git_config(text: str) -> Iterator[tuple[str, str]]:
    for key, quoted in _CONFIG_LINE.findall(text):
        value = quoted.strip().strip('"')
        if key.lower() in ("url", "pushurl"):
            yield "git remote", value
            for part in _REMOTE_PART.split(value):
                yield "git remote", part
                yield "git remote", part.removesuffix(".git")
        else:
            yield from _identity(value)


def _identity(text: str) -> Iterator[tuple[str, str]]:
    yield "git identity", text
    for part in re.split(r"[\s@]+", text):
        yield "git identity", part


# -- the environment ---------------------------------------------------------------------------


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if _OUR_ID.fullmatch(value):
            continue  # session and span that this library hands to its children
        if _SECRET_NAME.search(name.upper()) and len(value) <= 4_096:
            yield "environment", value
        for token in _TOKEN.findall(value):
            if is_random(token):
                yield "environment", token


def is_random(token: str) -> bool:
    """Whether a word looks drawn at random: letters and digits mixed, 3.5 bits a character."""
    if "/" in token or not (any(map(str.isdigit, token)) and any(map(str.isalpha, token))):
        return False
    counts = Counter(token)
    entropy = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    return entropy >= _ENTROPY_BITS


def _read(path: str) -> str:
    try:
        return private.read_regular(path, _MAX_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _tail(path: str) -> bytes:
    try:
        with open(private.open_regular(path), "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _MAX_BYTES))
            return file.read(_MAX_BYTES)
    except (OSError, ValueError):
        return b""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
