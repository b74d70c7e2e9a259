"""`telemetry-kit status`: is recording on here, which rule decided, and does it work?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import USAGE, CommandError, flush, print_line, safe, stop_output
from telemetry_kit.consent import changes, history, policy, prompt
from telemetry_kit.consent import obstacles as consent_obstacles
from telemetry_kit.consent.policy import Decision, Rule
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.storage import limits, maintenance, rotation

RECORDING, OFF, VETOED, OUTDATED, UNWRITABLE = 0, 10, 11, 12, 13
WIDTH = 80
_MARGIN = 22


def run(
    project: str | None, explain: bool, as_json: bool, simulate: Sequence[str], check: bool
) -> int:
    """Say whether events are recorded here, and why.

    Returns:
        The exit code of `--check`; 0 without it.

    Raises:
        CommandError: `--simulate` is not written as VAR=VALUE.
    """
    home = changes.paths_of(project)
    environ = _simulated(simulate)
    decision = policy.decide(home, environ, every_file=True)
    rules = (
        [*policy.rules(home, environ, every=True), *policy.nearby(home, environ)] if explain else []
    )
    obstacles = consent_obstacles.obstacles(home) if decision.allowed else []
    trouble = [
        *(obstacles or rotation.trouble(home)),
        *history.trouble(home),
        *_words_unknown(home),
    ]
    try:
        if as_json:
            print_line(json.dumps(_as_json(home, decision, rules, obstacles, trouble)))
        else:
            _print(home, decision, rules, obstacles, trouble)
        flush()
    except BrokenPipeError:
        stop_output()  # the reader has seen enough; the exit code counts all the same
    if not check:
        return 0
    return UNWRITABLE if obstacles else code_of(decision)


def _simulated(settings_given: Sequence[str]) -> dict[str, str]:
    environ = dict(runtime.environ)
    for given in settings_given:
        name, equals, value = given.partition("=")
        if not name or not equals:
            raise CommandError(f"--simulate {given[:40]!r}: write it as VAR=VALUE", USAGE)
        environ[name] = value
    return environ


def code_of(decision: Decision) -> int:
    """The exit code of `status --check`; a widening that was declined leaves nothing open."""
    if decision.allowed:
        return OUTDATED if prompt.pending_extension(decision) else RECORDING
    return VETOED if decision.vetoed else OFF


def _not_yet(decision: Decision) -> list[str]:
    """What would be recorded after a new yes only."""
    grant = decision.grant
    return [] if grant is None else grant.scope_extension(settings.current())


def _is_declined(decision: Decision) -> bool:
    return decision.grant is not None and decision.grant.has_declined(settings.current())


def _print(
    home: ProjectPaths,
    decision: Decision,
    rules: list[Rule],
    obstacles: list[str],
    trouble: list[str],
) -> None:
    state = "on" if decision.allowed else "vetoed" if decision.vetoed else "off"
    if obstacles:
        print_line(f"Recording is on, but events cannot be written: {safe(obstacles[0])}.")
    else:
        print_line(f"Recording is {state}: {safe(decision.rule.says)}.")
    when = "you denied it" if _is_declined(decision) else "only after another grant"
    for sentence in _not_yet(decision):
        print_line(f"  not yet  {safe(sentence)}: {when}")
    print_line(f"  app      {home.app}")
    print_line(f"  project  {safe(home.root)}")
    files, size = rotation.disk_usage(home)
    oldest = maintenance.oldest_day(home) if size else None
    many = f" in {files} files" if files > 1 else ""
    where = home.log if files == 1 else home.folder
    print_line(
        f"  events   {safe(where)} ({_bytes(size)}{many})" if size else "  events   none yet"
    )
    print_line(f"  kept     {decision.keep_days} days, at most {_bytes(limits.MAX_BYTES)}")
    if oldest:
        print_line(f"           the oldest line is of {oldest}")
    for sentence in trouble:
        print_line(f"  trouble  {safe(sentence)}")
    without_locks = rotation.without_locks(home)
    if without_locks:
        print_line(f"  note     {safe(without_locks)}")
    if rules:
        print_line()
        for rule in rules:
            _explain(rule, _same(rule, decision.rule))
        print_line()
        print_line("Any denial wins; only you can grant. The rule marked > decided.")


def _explain(rule: Rule, decided: bool) -> None:
    """One rule, in one line where it is not there, else with its raw value and what it says."""
    begin = f"{'>' if decided else ' '} {rule.owner:<11} {rule.verdict:<7} {safe(rule.name)}"
    more = [rule.says]
    if rule.raw is None and len(begin) + len(rule.says) + 2 <= WIDTH:
        begin, more = f"{begin}: {safe(rule.says)}", []
    elif rule.raw is not None:
        raw = repr(rule.raw)[1:-1]
        raw = raw if len(raw) <= WIDTH - _MARGIN else f"{raw[: WIDTH - _MARGIN - 3]}..."
        # A path fills its line.
        is_path = "/" in rule.name
        begin, more = begin if is_path else f"{begin} = {safe(raw)}", [raw] * is_path + more
    print_line(begin)
    for text in more:
        print_line(" " * _MARGIN + safe(text))


def _same(rule: Rule, decisive: Rule) -> bool:
    return (rule.owner, rule.name, rule.verdict) == (
        decisive.owner,
        decisive.name,
        decisive.verdict,
    )


def _as_json(
    home: ProjectPaths,
    decision: Decision,
    rules: list[Rule],
    obstacles: list[str],
    trouble: list[str],
) -> dict[str, Any]:
    files, size = rotation.disk_usage(home)
    found: dict[str, Any] = {
        "recording": decision.allowed and not obstacles,
        "vetoed": decision.vetoed,
        "reason": decision.rule.says,
        "decided_by": {"owner": decision.rule.owner, "name": decision.rule.name},
        "app": home.app,
        "project": home.root,
        "log": home.log,
        "bytes": size,
        "max_bytes": limits.MAX_BYTES,
        "files": files,
        "retention_days": decision.keep_days,
        "oldest_day": maintenance.oldest_day(home),
        "notice": None if decision.grant is None else decision.grant.notice,
        "not_yet": _not_yet(decision),
        "declined": _is_declined(decision),
        "obstacles": obstacles,
        "trouble": trouble,
    }
    if rules:
        found["rules"] = [
            {
                "owner": r.owner,
                "name": r.name,
                "raw": r.raw,
                "verdict": r.verdict,
                "says": r.says,
                "decided": _same(r, decision.rule),
            }
            for r in rules
        ]
    return found


def _words_unknown(home: ProjectPaths) -> list[str]:
    """What the files that may deny say in words that mean nothing: a veto that is none."""
    (ours, _), (theirs, _) = home.repository_files
    found = []
    for path in (ours, home.user_file):
        known = {"enabled", *catalog.VOCABULARIES}
        found += [_unknown(path, k) for k in settings.read_toml(path) or {} if k not in known]
    # Without the bytes that it must have to count: here they may be misspelled.
    tool = (settings.read_toml(theirs) or {}).get("tool", {})
    for name, section in tool.items() if isinstance(tool, dict) else ():
        if name == "telemetry_kit" and isinstance(section, dict):
            found += [_unknown(theirs, key) for key in section if key != "enabled"]
        elif _plain(name) == "telemetrykit":
            found.append(f"{theirs}: [tool.{name}] says nothing; it is [tool.telemetry_kit]")
    return found


def _unknown(path: str, key: str) -> str:
    meant = ": did you mean enabled?" if _plain(key) == "enabled" else ""
    return f"{path}: the word {key!r} says nothing{meant}"


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _bytes(size: int) -> str:
    if size >= 1_000_000_000:
        return f"{size / 1e9:.2f} GB"
    return f"{size} bytes" if size < 10_000 else f"{size / 1e6:.2f} MB"
