"""The current record: one dated line with the user's decision and its scope.

`consent.policy` decides whether a grant is enough.
"""

from __future__ import annotations

import time

from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import is_day

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from telemetry_kit.settings import Settings

# Programs of one app may declare different scopes, and each extended scope is denied only once.
MAX_DECLINED = 8
_KEYS = ("notice", "scope", "expires", "time", "keep", "context", "place", "declined", "entry")


class Grant:
    """The scope that the user granted; anything more is recorded only after another grant.

    Args:
        notice: version of the notice.
        time: the finest resolution of times.
        keep_days: for how many days at most lines are stored.
        context: context keys with their class; None for all keys that the tool declares.
        declined: fingerprints of extended scopes that the user denied, oldest first.
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
        """What these settings would record beyond the grant, one sentence each."""
        events = sorted(set(catalog.EVENTS) - catalog.covered_events(self.notice))
        fields = sorted(set(catalog.FIELDS) - catalog.covered_fields(self.notice))
        tokens = sorted(catalog.later_tokens(self.notice).items())
        found = [f"a new kind of event: {name}" for name in events]
        found += [f"a new field: {name}, {catalog.FIELDS[name].meaning}" for name in fields]
        found += [f"new values of {field}: {', '.join(sorted(new))}" for field, new in tokens]
        if self.resolution(now.resolution) != now.resolution:
            found.append(f"times by the {now.resolution} instead of the {self.time}")
        if now.retention_days > self.keep_days:
            from telemetry_kit._units import counted  # deferred: the recorder never reports this

            days = counted(now.retention_days, "day")
            found.append(f"stored for {days} instead of {self.keep_days:,}")
        if self.context is not None:
            new_keys = sorted(context_words(now.context) - self.context)
            found += [f"a new context key: {key}" for key in new_keys]
        return found

    def has_declined(self, now: Settings) -> bool:
        """Whether the user denied exactly this extended scope."""
        return bool(self.declined) and scope_fingerprint(now) in self.declined

    def with_declined(self, fingerprint: str) -> str:
        """The value of `declined` with one more fingerprint."""
        earlier = [one for one in self.declined if one != fingerprint]
        return ",".join([*earlier, fingerprint][-MAX_DECLINED:])

    def covered(
        self, context: Mapping[str, str | frozenset[str]]
    ) -> Mapping[str, str | frozenset[str]]:
        """Select the declared context keys, and of closed lists the strings, that are granted."""
        if self.context is None:
            return context
        kept: dict[str, str | frozenset[str]] = {}
        for key, kind in context.items():
            if not isinstance(kind, str):
                kept[key] = frozenset(t for t in kind if word_of(key, t) in self.context)
            elif f"{key}:{kind}" in self.context:
                kept[key] = kind
        return kept

    def resolution(self, wanted: str) -> str:
        """The configured resolution, or the granted one if that is coarser."""
        steps = catalog.RESOLUTIONS
        return wanted if steps[wanted] >= steps[self.time] else self.time


def context_words(context: Mapping[str, str | frozenset[str]]) -> frozenset[str]:
    """Context keys with their class, each as one word: `task_id:identifier`, `mode:=fast`."""
    words: set[str] = set()
    for key, kind in context.items():
        words |= {f"{key}:{kind}"} if isinstance(kind, str) else {word_of(key, t) for t in kind}
    return frozenset(words)


def word_of(key: str, token: str) -> str:
    """A string of a closed list as one word, without the characters that separate words."""
    plain = "".join(c if c.isalnum() and c.isascii() else f"%{ord(c):x}." for c in token)
    return f"{key}:={plain}"


def parse_record(data: bytes, now: str) -> tuple[str, str]:
    """Parse a record.

    Args:
        data: the bytes of the file: one line,
            `v1 yes 2026-11-23 notice=1 scope=0123456789abcdef expires=2027-11-23`. Other
            `key=value` words belong to later versions and are ignored.
        now: today, as `YYYY-MM-DD`.

    Returns:
        `yes`, `no`, `expired` or `corrupt`, and the day of the decision.
    """
    if data.count(b"\n") != 1 or not data.endswith(b"\n") or not data.isascii():
        return "corrupt", ""
    line = data.decode("ascii")
    words = line.split()
    if len(words) < 3 or words[0] != "v1" or not is_day(words[2]):
        return "corrupt", ""
    if words[1] == "no":
        return "no", words[2]
    facts = facts_of(line)
    if (
        words[1] != "yes"
        # A key that occurs twice.
        or len(facts) != sum("=" in word for word in words[3:])
        # The first notice has the number 1.
        or not is_number(facts.get("notice", ""))
        or not int(facts["notice"])
        or not is_number(facts.get("keep", "90"))
        or len(facts.get("scope", "")) != 16
        or not is_day(facts.get("expires", ""))
        # No clock is a day ahead, and no grant is valid for more than a year.
        or words[2] > day_after(now)
        or facts["expires"] > day_after(a_year_after(words[2]))
    ):
        return "corrupt", ""
    return ("expired" if facts["expires"] < now else "yes"), words[2]


def is_number(text: str) -> bool:
    """Whether a text is a whole number of at most nine digits."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def parse_grant(line: str) -> Grant:
    """The scope of a valid `yes` record; a missing word stands for the smallest scope."""
    facts = facts_of(line)
    resolution = facts.get("time", "day")
    context = facts.get("context", "")
    return Grant(
        notice=int(facts.get("notice", "0")),
        time=resolution if resolution in catalog.RESOLUTIONS else "day",
        keep_days=int(facts.get("keep", "90")),
        context=None if context == "*" else frozenset(filter(None, context.split(","))),
        declined=tuple(filter(None, facts.get("declined", "").split(","))),
    )


def facts_of(line: str) -> dict[str, str]:
    """The `key=value` words of a record."""
    pairs = (word.partition("=") for word in line.split()[3:])
    return {key: value for key, equals, value in pairs if equals}


def value_of(line: str, key: str) -> str:
    """The value of a key of a record; empty if the record does not have it.

    `place` is the name of the project's directories, or `all`. `entry` is the name of the entry in
    the history.
    """
    return facts_of(line).get(key, "")


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
    """The line of a decision; a grant is valid for twelve months from `day`.

    Args:
        decision: `yes` or `no`.
        day: today, as `YYYY-MM-DD`.
        now: the settings that the user was asked about.
        any_context: the grant covers all context keys that the tool declares, now or later.
        more: further `key=value` words, of this or of a later version.
        before: the current grant. The new one extends it, or two programs of one app with
            different scopes would ask again and again.
    """
    context = context_words(now.context)
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


def is_last_grant(line: str, history: bytes) -> bool:
    """Whether a grant has its entry at the end of the history, with no denial after it.

    Other grants and denied extensions may follow: if a program is killed after it wrote the
    history and before it wrote the record, the former grant stays valid.

    Args:
        line: the record.
        history: the last bytes of the history.
    """
    name = value_of(line, "entry")
    mark = f'"sha256": "{name}'.encode()
    for entry in reversed(history.rstrip(b"\n").split(b"\n")):
        if b'"decision": "yes"' not in entry and b'"declined": "' not in entry:
            return False
        # The SHA-256 ends the line, and in the former format the entry: 64 digits, a quotation
        # mark and a brace.
        ends = (entry, entry.partition(b', "previous": ')[0])
        if len(name) == 16 and any(end[-77:].startswith(mark) for end in ends):
            return True
    return False


def stamped(line: str, **values: str) -> bytes:
    """A record with other values of some keys.

    Args:
        line: the record.
        values: the value of each key; an empty one removes the key.
    """
    more = unknown_words(line)
    kept = [word for word in line.split() if word.partition("=")[0] not in values]
    own = kept[: len(kept) - len(more.split())]
    words = [*own, *(f"{key}={value}" for key, value in values.items() if value), more]
    return (" ".join(filter(None, words)) + "\n").encode("ascii")


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
    """16 hex digits that change whenever the scope of these settings does."""
    # deferred: only a decision being written needs it
    from telemetry_kit.privacy.hmac_sha256 import sha256

    lines = sorted(catalog.EVENTS)
    lines += [f"{f.name} {f.kind} {f.domain!r}" for f in catalog.FIELDS.values()]
    lines += [f"context {key}" for key in sorted(context_words(now.context))]
    lines += [f"time {now.resolution}", f"keep {now.retention_days}"]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]
