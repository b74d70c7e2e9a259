"""The current record: one dated line with the user's decision and its scope.

`consent.policy` decides whether a grant is enough.
"""

from __future__ import annotations

import time

from telemetry_kit._terms import is_day
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from telemetry_kit.settings import Settings

# Programs of one app may differ in what they declare; each is told no once.
MAX_DECLINED = 8
_KEYS = ("notice", "scope", "expires", "time", "keep", "context", "place", "declined", "entry")


class Grant:
    """What the user said yes to; nothing wider is recorded until the user is asked again.

    Args:
        notice: version of the notice.
        time: the finest resolution of times.
        keep_days: how long lines are kept at most.
        context: context keys with their class; None for whatever the tool declares.
        declined: fingerprints of wider scopes that the user has said no to, oldest first.
    """

    __slots__ = ("context", "declined", "keep_days", "notice", "time")

    def __init__(
        self,
        notice: int,
        time: str = "day",
        keep_days: int = 90,
        context: frozenset[str] | None = frozenset(),
        declined: tuple[str, ...] = (),
    ) -> None:
        self.notice = notice
        self.time = time
        self.keep_days = keep_days
        self.context = context
        self.declined = declined

    def scope_extension(self, now: Settings) -> list[str]:
        """What is recorded only after a new yes, one sentence each; empty when nothing is.

        Args:
            now: the settings that the program would record with.
        """
        found = []
        events = sorted(set(catalog.EVENTS) - catalog.covered_events(self.notice))
        fields = sorted(set(catalog.FIELDS) - catalog.covered_fields(self.notice))
        tokens = catalog.later_tokens(self.notice)
        found += [f"a new kind of event: {name}" for name in events]
        found += [f"a new field: {name}, {catalog.FIELDS[name].meaning}" for name in fields]
        found += [f"new values of {f}: {', '.join(sorted(t))}" for f, t in sorted(tokens.items())]
        if self.resolution(now.resolution) != now.resolution:
            found.append(f"times by the {now.resolution} instead of the {self.time}")
        if now.retention_days > self.keep_days:
            found.append(f"kept {now.retention_days} days instead of {self.keep_days}")
        if self.context is not None:
            new = sorted(described(now.context) - self.context)
            found += [f"a new context key: {key}" for key in new]
        return found

    def has_declined(self, now: Settings) -> bool:
        """Whether the user has said no to exactly this wider scope.

        Args:
            now: the settings that the program would record with.
        """
        return bool(self.declined) and scope_fingerprint(now) in self.declined

    def with_declined(self, fingerprint: str) -> str:
        """The record's word for what was declined until now, and this."""
        earlier = [one for one in self.declined if one != fingerprint]
        return ",".join([*earlier, fingerprint][-MAX_DECLINED:])

    def covered(
        self, context: Mapping[str, str | frozenset[str]]
    ) -> Mapping[str, str | frozenset[str]]:
        """Of the context keys that are declared, what may be recorded."""
        if self.context is None:
            return context
        kept: dict[str, str | frozenset[str]] = {}
        for key, kind in context.items():
            if isinstance(kind, str):
                if f"{key}:{kind}" in self.context:
                    kept[key] = kind
            else:
                kept[key] = frozenset(t for t in kind if _word(key, t) in self.context)
        return kept

    def resolution(self, wanted: str) -> str:
        """The finest resolution that may be recorded where `wanted` is configured."""
        steps = catalog.RESOLUTIONS
        return wanted if steps[wanted] >= steps[self.time] else self.time


def described(context: Mapping[str, str | frozenset[str]]) -> frozenset[str]:
    """Context keys with their class, each as one word: `task_id:identifier`, `mode:=fast`."""
    words: set[str] = set()
    for key, kind in context.items():
        words |= {f"{key}:{kind}"} if isinstance(kind, str) else {_word(key, t) for t in kind}
    return frozenset(words)


def _word(key: str, token: str) -> str:
    # One word of the record, without what separates words and keys there.
    plain = "".join(c if c.isalnum() and c.isascii() else f"%{ord(c):x}." for c in token)
    return f"{key}:={plain}"


def parse_record(data: bytes, now: str) -> tuple[str, str]:
    """What a record says.

    Args:
        data: the bytes of the file: one line,
            `v1 yes 2026-11-23 notice=1 scope=0123456789abcdef expires=2027-11-23`; further
            `key=value` words are kept for later versions and ignored.
        now: today, as `YYYY-MM-DD`.

    Returns:
        `yes`, `no`, `expired` or `corrupt`, and the day it was decided.
    """
    if data.count(b"\n") != 1 or not data.endswith(b"\n") or not data.isascii():
        return "corrupt", ""
    words = data.decode("ascii").split()
    if len(words) < 3 or words[0] != "v1" or not is_day(words[2]):
        return "corrupt", ""
    if words[1] == "no":
        return "no", words[2]
    facts = _facts(data.decode("ascii"))
    keys = [word.partition("=")[0] for word in words[3:] if "=" in word]
    if (
        words[1] != "yes"
        or len(keys) != len(set(keys))
        # There was no notice before the first, so nothing is covered by it.
        or not _is_number(facts.get("notice", ""))
        or not int(facts["notice"])
        or not _is_number(facts.get("keep", "90"))
        or len(facts.get("scope", "")) != 16
        or not is_day(facts.get("expires", ""))
        # No clock is a day ahead, and no yes was ever given for longer than a year.
        or words[2] > day_after(now)
        or facts["expires"] > day_after(a_year_after(words[2]))
    ):
        return "corrupt", ""
    return ("expired" if facts["expires"] < now else "yes"), words[2]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def parse_grant(line: str) -> Grant:
    """What a valid `yes` record covers; a word that is missing accepts the least there is."""
    facts = _facts(line)
    time_ = facts.get("time", "day")
    keep = facts.get("keep", "90")
    context = facts.get("context", "")
    return Grant(
        notice=int(facts.get("notice", "0")),
        time=time_ if time_ in catalog.RESOLUTIONS else "day",
        keep_days=int(keep),
        context=None if context == "*" else frozenset(filter(None, context.split(","))),
        declined=tuple(filter(None, facts.get("declined", "").split(","))),
    )


def _facts(line: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in line.split()[3:])
    return {key: value for key, equals, value in pairs if equals}


def today() -> str:
    """Today in UTC, as `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def render_record(
    decision: str,
    day: str,
    now: Settings,
    *,
    any_context: bool = False,
    more: str = "",
    before: Grant | None = None,
) -> bytes:
    """The line that says `decision` (`yes` or `no`), valid for twelve months from `day`.

    Args:
        decision: `yes` or `no`.
        day: today, as `YYYY-MM-DD`.
        now: the settings that were accepted.
        any_context: whatever context keys the tool declares were accepted.
        more: further `key=value` words, of this or of a later version.
        before: the yes that is in force; another one adds to it, so that two programs of one
            app do not ask in turns for ever.
    """
    context = described(now.context)
    resolution, keep = now.resolution, now.retention_days
    if before is not None and decision == "yes":
        any_context = any_context or before.context is None
        context |= before.context or frozenset()
        resolution = min(resolution, before.time, key=lambda name: catalog.RESOLUTIONS[name])
        keep = max(keep, before.keep_days)
    words = [
        f"v1 {decision} {day} notice={catalog.NOTICE_VERSION} scope={scope_fingerprint(now)}",
        f"expires={a_year_after(day)} time={resolution} keep={keep}",
        f"context={'*' if any_context else ','.join(sorted(context))}",
        more,
    ]
    return (" ".join(filter(None, words)) + "\n").encode("ascii")


def unknown_words(line: str) -> str:
    """The `key=value` words of a record that this version does not know."""
    return " ".join(word for word in line.split()[3:] if word.partition("=")[0] not in _KEYS)


def entry_of(line: str) -> str:
    """The name of the history entry that a record comes from; empty where it names none."""
    return _facts(line).get("entry", "")


def place_of(line: str) -> str:
    """The name of the project that a record is about, or `all`; empty where it names none."""
    return _facts(line).get("place", "")


def is_last_grant(line: str, history: bytes) -> bool:
    """Whether a grant comes from the end of the history, with no denial behind it.

    Behind its entry there may be others of grants, and of declined widenings: when a program is
    killed between the history and the record, the former grant stays in force.

    Args:
        line: the record.
        history: the last bytes of the history.
    """
    name = entry_of(line)
    mark = f'"sha256": "{name}'.encode()
    for entry in reversed(history.rstrip(b"\n").split(b"\n")):
        if b'"decision": "yes"' not in entry and b'"declined": "' not in entry:
            return False
        # Its code ends the line, and in a history of the former form the entry: 64 digits, a
        # quotation mark and a brace.
        ends = (entry, entry.partition(b', "previous": ')[0])
        if len(name) == 16 and any(end[-77:].startswith(mark) for end in ends):
            return True
    return False


def stamped(line: str, **words: str) -> bytes:
    """A record with these words instead of its own of the same keys.

    Args:
        line: the record.
        words: the value of each key; an empty one takes the word out.
    """
    more = unknown_words(line)
    kept = [word for word in line.split() if word.partition("=")[0] not in words]
    own = kept[: len(kept) - len(more.split())]
    found = [*own, *(f"{key}={value}" for key, value in words.items() if value), more]
    return (" ".join(filter(None, found)) + "\n").encode("ascii")


def a_year_after(day: str) -> str:
    """The same day of the next year; the 28th for a 29 February."""
    return f"{int(day[:4]) + 1:04d}{day[4:] if day[5:] != '02-29' else '-02-28'}"


def day_after(day: str) -> str:
    """The next day of the calendar."""
    year, month, number = int(day[:4]), int(day[5:7]), int(day[8:])
    tomorrow = f"{day[:8]}{number + 1:02d}"
    if is_day(tomorrow):
        return tomorrow
    return f"{year:04d}-{month + 1:02d}-01" if month < 12 else f"{year + 1:04d}-01-01"


def scope_fingerprint(now: Settings) -> str:
    """16 hex digits that change whenever what may be recorded does.

    Args:
        now: the settings in force.
    """
    # deferred: only a decision being written needs it
    from telemetry_kit.privacy.hmac_sha256 import sha256

    lines = sorted(catalog.EVENTS)
    lines += [f"{f.name} {f.kind} {f.domain!r}" for f in catalog.FIELDS.values()]
    lines += [f"context {key}" for key in sorted(described(now.context))]
    lines += [f"time {now.resolution}", f"keep {now.retention_days}"]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]
