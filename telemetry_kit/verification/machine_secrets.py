"""The secrets of this machine, from the user, the machine, git and the environment.

They come from files and environment variables. No program is run, no connection is opened, and
the secrets are held in memory only. Their weak hashes need no key, or one that can be guessed.
"""

from __future__ import annotations

import glob
import hashlib
import hmac
import ipaddress
import math
import os
import pwd
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog

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
_ENTROPY_BITS = 3.5
_MAX_BYTES = 1 << 16
# A shorter text is found in any file by chance.
MIN_CHARS = 4
# The weak hashes of one secret take almost a megabyte.
MAX_SECRETS = 400

ALGORITHMS = (
    *("md5", "sha1", "sha224", "sha256", "sha384", "sha512"),
    *("sha3_224", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s"),
)
PART_BYTES = 6
_FIELDS = (*catalog.NAMES, "project_id", "session_id", "parent_id", "context")

Secrets = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Secret:
    """One text that no file may hold.

    Args:
        kind: `user`, `paths`, `host`, `git identity`, `git remote`, `git branch`, `directory`,
            `machine id`, `network address` or `environment`.
        text: the text itself.
    """

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"Secret({self.kind!r}, {len(self.text)} characters)"


def gather(paths: ProjectPaths, environ: Mapping[str, str], start: str) -> list[Secret]:
    """Return each secret of at least `MIN_CHARS` characters once, at most `MAX_SECRETS`.

    Args:
        paths: the paths of the project.
        environ: the environment variables.
        start: the working directory.
    """
    found: dict[str, Secret] = {}
    for kind, raw in candidates(paths, environ, start):
        text = raw.strip()
        if len(text) >= MIN_CHARS and text not in found and len(set(text)) > 1:
            found[text] = Secret(kind, text)
        if len(found) == MAX_SECRETS:
            break
    return list(found.values())


def candidates(paths: ProjectPaths, environ: Mapping[str, str], start: str) -> Secrets:
    """Yield the kind and the text of each secret, the most telling first."""
    yield from user_secrets(environ)
    for name in (os.uname().nodename, read_text("/etc/hostname")):
        yield "host", name
        yield "host", name.partition(".")[0]
    yield from git_secrets(paths, environ, start)
    for path in (start, paths.root):
        yield from with_parts("directory", path, "/")
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        yield "machine id", read_text(path)
    for address in network_addresses():
        yield "network address", address
    yield from environment_secrets(environ)


def with_parts(kind: str, text: str, separators: str) -> Secrets:
    """Yield a text and the parts between its separators, given as a pattern."""
    yield kind, text
    for part in re.split(separators, text):
        yield kind, part


def user_secrets(environ: Mapping[str, str]) -> Secrets:
    """Yield the names of the user and the parts of the home directory."""
    for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        yield "user", environ.get(name, "")
    folders = [environ.get("HOME", "")]
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        pass
    else:
        yield "user", entry.pw_name
        yield from with_parts("user", entry.pw_gecos.split(",")[0], r"\s+")
        folders.append(entry.pw_dir)
    for folder in folders:
        yield from with_parts("home", folder, "/")


def network_addresses() -> Iterator[str]:
    """Yield the hardware, IPv4 and IPv6 addresses of this machine, in each common notation."""
    for path in sorted(glob.glob("/sys/class/net/*/address")):
        address = read_text(path).strip()
        if address.strip("0:"):
            yield address
            yield address.replace(":", "")
            yield address.replace(":", "-")
    trie = read_text("/proc/net/fib_trie")
    for address in re.findall(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL", trie):
        if not address.startswith("127."):
            yield address
    for line in read_text("/proc/net/if_inet6").splitlines():
        digits = line.split()[0]
        if digits.strip("0") not in ("", "1"):
            yield digits
            yield str(ipaddress.IPv6Address(bytes.fromhex(digits)))


def git_secrets(paths: ProjectPaths, environ: Mapping[str, str], start: str) -> Secrets:
    """Yield identities, remotes and branches from the files of git, without running git."""
    user = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or f"{user}/.config"
    for path in (f"{user}/.gitconfig", f"{config}/git/config", environ.get("GIT_CONFIG_GLOBAL")):
        if path:
            yield from git_config_secrets(read_text(path))
    for folder in dict.fromkeys([*git_directories(start), *git_directories(paths.root)]):
        yield from git_config_secrets(read_text(f"{folder}/config"))
        head = read_text(f"{folder}/HEAD").strip()
        branch = head.removeprefix("ref: refs/heads/")
        if branch != head:
            yield from with_parts("git branch", branch, "/")
        try:
            with open(private.open_regular(f"{folder}/logs/HEAD"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_BYTES))
                reflog = file.read(_MAX_BYTES)
        except (OSError, ValueError):
            continue
        for identity in set(_IDENTITY.findall(reflog)):
            for text in identity:
                yield from with_parts("git identity", text.decode("utf-8", "replace"), r"[\s@]+")


def git_directories(start: str) -> Iterator[str]:
    """Yield the git directories of a folder and its parents; of a worktree also the main one."""
    at = start
    while True:
        path = f"{at.rstrip('/')}/.git"
        if os.path.isdir(path):
            yield path
        elif (pointer := read_text(path)).startswith("gitdir: "):
            folder = os.path.join(at, pointer[8:].strip())
            yield folder
            common = read_text(f"{folder}/commondir").strip()
            if common:
                yield os.path.normpath(os.path.join(folder, common))
        parent = os.path.dirname(at)
        if parent == at:
            return
        at = parent


def git_config_secrets(text: str) -> Secrets:
    """Yield the identities and remotes in the text of a git configuration."""
    for key, quoted in _CONFIG_LINE.findall(text):
        value = quoted.strip().strip('"')
        if key.lower() in ("url", "pushurl"):
            yield from with_parts("git remote", value, "[/:@]")
            yield "git remote", re.split("[/:@]", value)[-1].removesuffix(".git")
        else:
            yield from with_parts("git identity", value, r"[\s@]+")


def environment_secrets(environ: Mapping[str, str]) -> Secrets:
    """Yield values of variables with a telling name, and random words in the others."""
    for name, value in environ.items():
        if _OUR_ID.fullmatch(value):
            continue  # the session and span that this library gives to its child processes
        if _SECRET_NAME.search(name.upper()) and len(value) <= 4_096:
            yield "environment", value
        for token in _TOKEN.findall(value):
            if is_random(token):
                yield "environment", token


def is_random(token: str) -> bool:
    """Return whether a word mixes letters and digits and has 3.5 bits of entropy a character."""
    if "/" in token or not (any(map(str.isdigit, token)) and any(map(str.isalpha, token))):
        return False
    counts = Counter(token)
    entropy = -sum(n / len(token) * math.log2(n / len(token)) for n in counts.values())
    return entropy >= _ENTROPY_BITS


def read_text(path: str) -> str:
    """Return the first 64 KiB of a file; an empty string if it cannot be read."""
    try:
        return private.read_regular(path, _MAX_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


class WeakHashes:
    """Every hash of some secrets that anybody could compute.

    A pseudonym cannot be computed again without its text, so it is looked up among these.

    Args:
        secrets: the secrets of this machine.
        salts: words that a careless program would use as a salt or key.
    """

    def __init__(self, secrets: Iterable[Secret], salts: Iterable[str]) -> None:
        salted = [salt.encode("utf-8", "surrogatepass") for salt in dict.fromkeys(salts) if salt]
        self._owners: dict[bytes, Secret] = {}
        for secret in secrets:
            for digest in digests(secret.text, salted):
                self._owners[digest[:PART_BYTES]] = secret
                self._owners[digest[-PART_BYTES:]] = secret

    def owner(self, digits: str) -> Secret | None:
        """Return the secret of which a code is a weak hash; None if it is of none.

        Args:
            digits: at least 12 hex digits.
        """
        raw = bytes.fromhex(digits[: len(digits) & ~1])
        return self._owners.get(raw[:PART_BYTES]) or self._owners.get(raw[-PART_BYTES:])


def salts_of(app: str, secrets: Iterable[Secret]) -> list[str]:
    """Return the obvious salts: the app, the fields, common words, the user and the machine.

    Args:
        app: the name of the app.
        secrets: the secrets of this machine.
    """
    own = [s.text for s in secrets if s.kind in ("user", "host", "machine id")]
    folders = [s.text for s in secrets if s.kind == "directory" and "/" not in s.text]
    fixed = ["salt", "telemetry", "telemetry_kit", "telemetry-kit", "key", "secret", "pepper"]
    return [app, app.upper(), *_FIELDS, *fixed, *own, *folders[-2:]]


def digests(text: str, salts: list[bytes]) -> Iterator[bytes]:
    """Yield every weak hash of a text."""
    spellings = (text, text.lower(), text.upper(), unicodedata.normalize("NFKC", text))
    for spelling in dict.fromkeys(spellings):
        raw = spelling.encode("utf-8", "surrogatepass")
        messages = [raw]
        for salt in salts:
            messages += [salt + raw, raw + salt, salt + b"\0" + raw, salt + b":" + raw]
        for name in ALGORITHMS:
            for message in messages:
                yield hashlib.new(name, message, usedforsecurity=False).digest()
        for salt in (b"", *salts):
            for name in ("md5", "sha1", "sha256"):
                yield hmac.digest(salt, raw, name)
