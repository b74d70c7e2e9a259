"""May we record? Owners, vetoes, the user's decision, and the trace of how it was reached.

Any denial wins and only the user can grant. Whatever cannot be read or understood is a denial.
Nothing here writes an event, and asking creates no file.
"""

from __future__ import annotations

import os
import time

from telemetry_kit import catalog, private
from telemetry_kit.errors import ConsentError, Refused
from telemetry_kit.home import Home, find
from telemetry_kit.private import NotPrivateError
from telemetry_kit.settings import read_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from telemetry_kit.settings import Settings

DENY = "deny"
GRANT = "grant"
SILENT = "silent"
IGNORED = "ignored"

FALSE = frozenset({"", "0", "false", "no", "off"})
CI_VARIABLES = (
    "CONTINUOUS_INTEGRATION",
    "CI_NAME",
    "CI_APP_ID",
    "CI_BUILD_ID",
    "CI_BUILD_NUMBER",
    "BUILD_NUMBER",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "TF_BUILD",
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
    "JENKINS_URL",
    "HUDSON_URL",
    "TRAVIS",
    "CIRCLECI",
    "BUILDKITE",
    "DRONE",
    "APPVEYOR",
    "TEAMCITY_VERSION",
    "BITBUCKET_BUILD_NUMBER",
    "BITBUCKET_COMMIT",
    "CODEBUILD_BUILD_ID",
    "CODEBUILD_BUILD_ARN",
    "CIRRUS_CI",
    "SEMAPHORE",
    "GITEA_ACTIONS",
    "NETLIFY",
    "VERCEL",
    "RENDER",
    "CF_PAGES",
    "PROW_JOB_ID",
    "BUDDY",
    "AC_APPCIRCLE",
    "bamboo_planKey",
)
# Developers' machines carry these too, so alone they count only where nobody sits at a terminal.
WEAK_CI_VARIABLES = ("BUILD_ID", "run_ID")
PYTEST_VARIABLES = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST")
RECORD = "telemetry.enabled"
MAX_RECORD_BYTES = 65_536

_FIXED = frozenset(
    {
        "DO_NOT_TRACK",
        "TELEMETRY_KIT_DISABLED",
        "CI",
        *CI_VARIABLES,
        *WEAK_CI_VARIABLES,
        *PYTEST_VARIABLES,
    }
)


class Rule:
    """One rule of the decision and what it said.

    Args:
        owner: `system`, `environment`, `repository` or `user`.
        name: the variable, file or key that was asked.
        raw: its raw value as text, None when it is not there.
        verdict: `deny`, `grant`, `silent` or `ignored`.
        says: one short sentence for people.
        everywhere: whether it holds whatever the project.
    """

    __slots__ = ("everywhere", "name", "owner", "raw", "says", "verdict")

    def __init__(
        self,
        owner: str,
        name: str,
        raw: str | None,
        verdict: str,
        says: str,
        everywhere: bool = False,
    ) -> None:
        self.owner = owner
        self.name = name
        self.raw = raw
        self.verdict = verdict
        self.says = says
        self.everywhere = everywhere


class Accepted:
    """What the user said yes to; nothing wider is recorded until the user is asked again.

    Args:
        notice: version of the notice.
        time: the finest resolution of times.
        keep_days: how long lines are kept at most.
        context: context keys with their class; None for whatever the tool declares.
        declined: version of a later notice whose widening the user has said no to.
    """

    __slots__ = ("context", "declined", "keep_days", "notice", "time")

    def __init__(
        self,
        notice: int,
        time: str = "day",
        keep_days: int = 90,
        context: frozenset[str] | None = None,
        declined: str = "",
    ) -> None:
        self.notice = notice
        self.time = time
        self.keep_days = keep_days
        self.context = context
        self.declined = declined

    def widened(self, now: Settings) -> list[str]:
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


class Decision:
    """The answer, and the rule that decided it.

    Args:
        allowed: whether events may be recorded.
        rule: the deciding rule.
        accepted: what the user said yes to; None without a grant.
    """

    __slots__ = ("accepted", "allowed", "rule")

    def __init__(self, allowed: bool, rule: Rule, accepted: Accepted | None = None) -> None:
        self.allowed = allowed
        self.rule = rule
        self.accepted = accepted

    @property
    def vetoed(self) -> bool:
        """Off by somebody else than the user."""
        return not self.allowed and self.rule.verdict == DENY and self.rule.owner != "user"


def watched(app_prefix: str) -> frozenset[str]:
    """The environment variables that can deny for an app with this prefix."""
    return _FIXED | {f"{app_prefix}_TELEMETRY_DISABLED"}


def decide(home: Home, environ: Mapping[str, str]) -> Decision:
    """The decision for one home: the first denial, else the user's grant, else off."""
    granted = undecided = None
    for rule in rules(home, environ):
        if rule.verdict == DENY:
            return Decision(False, rule)
        if rule.verdict == GRANT:
            granted = rule
        elif rule.owner == "user":
            undecided = rule
    if granted is not None:
        return Decision(True, granted, accepted(granted.raw or ""))
    assert undecided is not None
    return Decision(False, undecided)


def decide_here(app: str, start: str | None, environ: Mapping[str, str]) -> Decision:
    """The same for a directory; where there is no home, that is the denial."""
    try:
        return decide(find(app, start, environ), environ)
    except Refused as refusal:
        return Decision(False, Rule("user", "home", None, DENY, refusal.reason))


def rules(home: Home, environ: Mapping[str, str], every: bool = False) -> Iterator[Rule]:
    """Every rule in order with what it says.

    Args:
        home: the places to look at.
        environ: the variables to look at.
        every: also yield the variables that are not set, for `status --explain`.
    """
    yield _system(home)
    yield from environment_rules(home.app.upper().replace("-", "_"), environ, every)
    for path, marker in home.repository_files:
        yield _switch(
            "repository",
            path,
            _section(path, marker),
            "a committed file cannot speak for its readers",
        )
    yield _switch(
        "user",
        home.user_file,
        read_toml(home.user_file),
        "a grant is made by the command enable",
        everywhere=True,
    )
    yield from _records(home)


def environment_rules(
    prefix: str, environ: Mapping[str, str], every: bool = False
) -> Iterator[Rule]:
    """The rules of the environment alone."""
    for name in ("DO_NOT_TRACK", f"{prefix}_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED"):
        raw = environ.get(name)
        if raw is None:
            if every:
                yield Rule("environment", name, None, SILENT, "not set")
        elif raw.strip().casefold() in FALSE:
            yield Rule("environment", name, raw, SILENT, "does not deny")
        else:
            yield Rule("environment", name, raw, DENY, f"{name} is set", everywhere=True)
    yield from _ci(environ, every)
    for name in PYTEST_VARIABLES:
        raw = environ.get(name)
        if raw is not None:
            yield Rule("environment", name, raw, DENY, "running under pytest", everywhere=True)
        elif every:
            yield Rule("environment", name, None, SILENT, "not set")


def _ci(environ: Mapping[str, str], every: bool) -> Iterator[Rule]:
    raw = environ.get("CI")
    value = None if raw is None else raw.strip().casefold()
    if value and value in FALSE:
        yield Rule("environment", "CI", raw, SILENT, "says that this is no CI run")
        return
    if value:
        yield Rule("environment", "CI", raw, DENY, "running in CI", everywhere=True)
    elif every:
        yield Rule("environment", "CI", raw, SILENT, "not set")
    names: tuple[str, ...] = CI_VARIABLES
    if not _terminal():
        names += WEAK_CI_VARIABLES
    for name in names:
        raw = environ.get(name)
        if raw is not None and raw.strip().casefold() not in FALSE:
            yield Rule(
                "environment", name, raw, DENY, f"running in CI ({name} is set)", everywhere=True
            )
        elif every:
            says = "not set" if raw is None else "does not deny"
            yield Rule("environment", name, raw, SILENT, says)


def _terminal() -> bool:
    try:
        return os.isatty(0) or os.isatty(2)
    except OSError:
        return False


def _system(home: Home) -> Rule:
    path = home.system_file
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(MAX_RECORD_BYTES).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return Rule("system", path, None, SILENT, "no such file")
    except (OSError, ValueError):
        return Rule("system", path, None, DENY, f"{path} cannot be read", everywhere=True)
    for line in text.splitlines():
        key, _, value = line.partition("#")[0].partition("=")
        if key.strip() == "enabled" and value.strip().casefold() == "true":
            return Rule("system", path, text.strip(), SILENT, "does not deny")
    return Rule("system", path, text.strip(), DENY, f"{path} denies", everywhere=True)


def _section(path: str, marker: bytes) -> Mapping[str, object] | None:
    table = read_toml(path, marker)
    if table is None or not marker:
        return table
    tool = table.get("tool", {})
    section = tool.get("telemetry_kit", {}) if isinstance(tool, dict) else None
    return section if isinstance(section, dict) else None


def _switch(
    owner: str,
    path: str,
    table: Mapping[str, object] | None,
    ignored: str,
    everywhere: bool = False,
) -> Rule:
    if table is None:
        return Rule(owner, path, None, DENY, f"{path} cannot be read", everywhere)
    if "enabled" not in table:
        return Rule(owner, path, None, SILENT, "says nothing")
    value = table["enabled"]
    if value is True:
        return Rule(owner, path, "enabled = true", IGNORED, f"ignored: {ignored}")
    raw = "enabled = false" if value is False else "enabled = ?"
    return Rule(owner, path, raw, DENY, f"{path} says {raw}", everywhere)


# -- the user's record -------------------------------------------------------------------------


def record_path(home: Home, all_projects: bool) -> str | None:
    """Where the record is; None for a project where no place key exists yet."""
    if all_projects:
        return f"{home.config}/{RECORD}"
    place = place_of(home)
    return None if place is None else f"{home.config}/projects/{place}/{RECORD}"


def place_of(home: Home) -> str | None:
    """The name of this project's folders in the user's directories, or None before any grant.

    It is a keyed code of the real path, so that no path stands in clear.

    Raises:
        ConsentError: the place key is there but cannot be used.
    """
    try:
        key = private.read(home.place_key, 32)
    except NotPrivateError as error:
        raise ConsentError(str(error)) from None
    if key is None:
        return None
    if len(key) != 32 or not any(key):
        raise ConsentError(f"{home.place_key} is not a key")
    from telemetry_kit.mac import Mac  # deferred: an undecided program has no key to use

    return Mac(key).hex(b"place\0" + os.fsencode(home.root), 16)


def _records(home: Home) -> Iterator[Rule]:
    if not os.path.isdir(home.config):
        yield Rule("user", home.config, None, SILENT, "nothing was decided yet", everywhere=True)
        return
    yield _record(f"{home.config}/{RECORD}", "for all projects", everywhere=True)
    try:
        path = record_path(home, all_projects=False)
    except ConsentError as error:
        yield Rule("user", home.place_key, None, DENY, str(error), everywhere=True)
        return
    if path is None:
        yield Rule("user", f"{home.config}/projects", None, SILENT, "nothing was decided yet", True)
    else:
        yield _record(path, "for this project")


def _record(path: str, scope: str, everywhere: bool = False) -> Rule:
    try:
        data = private.read(path, MAX_RECORD_BYTES, forbidden=0o022)
    except NotPrivateError as error:
        return Rule("user", path, None, DENY, str(error), everywhere)
    if data is None:
        return Rule("user", path, None, SILENT, f"nothing was decided {scope}")
    raw = data.decode("ascii", "backslashreplace").strip()
    state, day = parse_record(data, today())
    if state == "yes":
        return Rule("user", path, raw, GRANT, f"you said yes {scope} on {day}", everywhere)
    if state == "no":
        return Rule("user", path, raw, DENY, f"you said no {scope} on {day}", everywhere)
    if state == "expired":
        return Rule("user", path, raw, SILENT, f"your yes {scope} of {day} has expired")
    return Rule("user", path, raw, DENY, f"{path} is not a valid consent record", everywhere)


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
    if (
        words[1] != "yes"
        or not facts.get("notice", "").isdigit()
        or len(facts.get("scope", "")) != 16
        or not is_day(facts.get("expires", ""))
    ):
        return "corrupt", ""
    return ("expired" if facts["expires"] < now else "yes"), words[2]


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, as `YYYY-MM-DD`."""
    year, month, day = text[:4], text[5:7], text[8:]
    if len(text) != 10 or text[4] + text[7] != "--" or not (year + month + day).isdigit():
        return False
    longest = 31 - (month in ("04", "06", "09", "11")) - 2 * (month == "02")
    if month == "02" and int(year) % 4 == 0 and (int(year) % 100 or int(year) % 400 == 0):
        longest = 29
    return text.isascii() and year > "0000" and "01" <= month <= "12" and 1 <= int(day) <= longest


def accepted(line: str) -> Accepted:
    """What a valid `yes` record covers; words that are missing mean what was the default."""
    facts = _facts(line)
    time_ = facts.get("time", "day")
    keep = facts.get("keep", "90")
    context = facts.get("context", "*")
    return Accepted(
        notice=int(facts.get("notice", "0")),
        time=time_ if time_ in catalog.RESOLUTIONS else "day",
        keep_days=int(keep) if keep.isdigit() else 90,
        context=None if context == "*" else frozenset(filter(None, context.split(","))),
        declined=facts.get("declined", ""),
    )


def _facts(line: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in line.split()[3:])
    return {key: value for key, equals, value in pairs if equals}


def today() -> str:
    """Today in UTC, as `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def render_record(
    decision: str, day: str, now: Settings, *, any_context: bool = False, more: str = ""
) -> bytes:
    """The line that says `decision` (`yes` or `no`), valid for twelve months from `day`.

    Args:
        decision: `yes` or `no`.
        day: today, as `YYYY-MM-DD`.
        now: the settings that were accepted.
        any_context: whatever context keys the tool declares were accepted.
        more: further `key=value` words, of this or of a later version.
    """
    context = "*" if any_context else ",".join(sorted(described(now.context)))
    words = [
        f"v1 {decision} {day} notice={catalog.NOTICE_VERSION} scope={scope_fingerprint(now)}",
        f"expires={a_year_after(day)} time={now.resolution} keep={now.retention_days}",
        f"context={context}",
        more,
    ]
    return (" ".join(filter(None, words)) + "\n").encode("ascii")


def unknown_words(line: str) -> str:
    """The `key=value` words of a record that this version does not know."""
    known = ("notice=", "scope=", "expires=", "time=", "keep=", "context=", "declined=")
    return " ".join(word for word in line.split()[3:] if not word.startswith(known))


def a_year_after(day: str) -> str:
    """The same day of the next year; the 28th for a 29 February."""
    return f"{int(day[:4]) + 1:04d}{day[4:] if day[5:] != '02-29' else '-02-28'}"


def scope_fingerprint(now: Settings) -> str:
    """16 hex digits that change whenever what may be recorded does.

    Args:
        now: the settings in force.
    """
    from telemetry_kit.mac import sha256  # deferred: only a decision being written needs it

    lines = sorted(catalog.EVENTS)
    lines += [f"{f.name} {f.kind} {f.domain!r}" for f in catalog.FIELDS.values()]
    lines += [f"context {key}" for key in sorted(described(now.context))]
    lines += [f"time {now.resolution}", f"keep {now.retention_days}"]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]
