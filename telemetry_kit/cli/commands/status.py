"""`telemetry-kit status`: whether events are recorded here, and which rule decided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.cli import configuration
from telemetry_kit.cli.output import USAGE, CommandError, counted, in_bytes
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes, history, policy, prompt
from telemetry_kit.consent import obstacles as consent_obstacles
from telemetry_kit.consent.policy import Decision, Rule
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, maintenance, rotation

RECORDING, OFF, VETOED, OUTDATED, UNWRITABLE = 0, 10, 11, 12, 13
MAX_WIDTH = 80
MARGIN = 22


def run(
    project: str | None, explain: bool, as_json: bool, simulate: Sequence[str], check: bool
) -> int:
    """Show whether events are recorded here, and why.

    Returns:
        The exit code of `--check`; 0 without it.

    Raises:
        CommandError: a value of `--simulate` is not `VAR=VALUE`.
    """
    paths = changes.paths_of(project)
    environ = dict(runtime.environ)
    for text in simulate:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CommandError(f"--simulate {text[:40]!r}: write it as VAR=VALUE", USAGE)
        environ[name] = value
    decision = policy.decide(paths, environ, every_file=True)
    rules = (
        [*policy.rules(paths, environ, every=True), *policy.nearby(paths, environ)]
        if explain
        else []
    )
    obstacles = consent_obstacles.obstacles(paths) if decision.allowed else []
    trouble = [
        *(obstacles or rotation.trouble(paths)),
        *history.trouble(paths),
        *configuration.problems(paths),
    ]
    found = as_dict(paths, decision, rules, obstacles, trouble)
    if as_json:
        print(json.dumps(found))
    else:
        print_report(paths, decision, found)
        if rules:
            print_rules(rules, decision.rule)
    if not check:
        return 0
    return UNWRITABLE if obstacles else code_of(decision)


def code_of(decision: Decision) -> int:
    """Return the exit code of `status --check`; a declined scope extension needs no new notice."""
    if decision.allowed:
        return OUTDATED if prompt.pending_extension(decision) else RECORDING
    return VETOED if decision.vetoed else OFF


def as_dict(
    paths: ProjectPaths,
    decision: Decision,
    rules: list[Rule],
    obstacles: list[str],
    trouble: list[str],
) -> dict[str, Any]:
    """Return the report as data, for `--json`."""
    files, size = rotation.disk_usage(paths)
    grant, now = decision.grant, settings.current()
    found: dict[str, Any] = {
        "recording": decision.allowed and not obstacles,
        "vetoed": decision.vetoed,
        "reason": decision.rule.says,
        "decided_by": {"owner": decision.rule.owner, "name": decision.rule.name},
        "app": paths.app,
        "project": paths.root,
        "log": paths.log,
        "bytes": size,
        "max_bytes": limits.MAX_BYTES,
        "files": files,
        "retention_days": decision.keep_days,
        "oldest_day": maintenance.oldest_day(paths) if size else None,
        "notice": None if grant is None else grant.notice,
        "not_yet": [] if grant is None else grant.scope_extension(now),
        "declined": grant is not None and grant.has_declined(now),
        "obstacles": obstacles,
        "trouble": trouble,
    }
    if rules:
        keys = ("owner", "name", "raw", "verdict", "says")
        found["rules"] = [
            {**{key: getattr(r, key) for key in keys}, "decided": is_same(r, decision.rule)}
            for r in rules
        ]
    return found


def is_same(rule: Rule, decisive: Rule) -> bool:
    """Whether two rules are the same one."""
    mine, other = ((r.owner, r.name, r.verdict) for r in (rule, decisive))
    return mine == other


# -- the report for people ---------------------------------------------------------------------


def print_report(paths: ProjectPaths, decision: Decision, found: dict[str, Any]) -> None:
    """Print the report."""
    if found["obstacles"]:
        state = f"on, but events cannot be written: {found['obstacles'][0]}"
    else:
        state = "on" if decision.allowed else "vetoed" if decision.vetoed else "off"
        state = f"{state}: {decision.rule.says}"
    print_folded(f"Recording is {state}.", "")
    when = "you have declined it" if found["declined"] else "only after you grant it"
    rows = [("not yet", f"{sentence}: {when}") for sentence in found["not_yet"]]
    rows += [("app", paths.app), ("project", paths.root)]
    files, size = found["files"], found["bytes"]
    if not size:
        rows.append(("events", "none yet"))
    elif files > 1:
        rows.append(("events", f"{paths.folder} ({in_bytes(size)} in {counted(files, 'file')})"))
    else:
        rows.append(("events", f"{paths.log} ({in_bytes(size)})"))
    kept = counted(decision.keep_days, "day")
    rows.append(("kept", f"{kept}, at most {in_bytes(limits.MAX_BYTES)}"))
    if found["oldest_day"]:
        rows.append(("", f"the oldest line is of {found['oldest_day']}"))
    rows += [("trouble", sentence) for sentence in found["trouble"]]
    rows += [("note", sentence) for sentence in [rotation.without_locks(paths)] if sentence]
    for label, text in rows:
        print_folded(text, f"  {label:<7}  ", 11)


def print_rules(rules: list[Rule], decisive: Rule) -> None:
    """Print the rule that decided, and then each other one with its value and its result."""
    decided = next((rule for rule in rules if is_same(rule, decisive)), None)
    unset = [rule for rule in rules if rule.owner == "environment" and rule.raw is None]
    print()
    if decided is not None:
        print_rule(decided, ">")
        print()
    for rule in rules:
        if rule is decided or rule in unset[1:]:
            continue
        if len(unset) > 1 and rule is unset[0]:
            sentence = f"{len(unset)} variables that could deny are not set (see --json)"
            print_folded(f"  environment silent  {sentence}", "", MARGIN)
        else:
            print_rule(rule, " ")
    print()
    print_folded("Any denial wins; only you can grant. The rule marked > decided.", "", 0)


def print_rule(rule: Rule, mark: str) -> None:
    """Print one rule."""
    begin = f"{mark} {rule.owner:<11} {rule.verdict:<7} {rule.name}"
    more = [rule.says]
    if rule.raw is not None:
        raw = repr(rule.raw)[1:-1]
        raw = raw if len(raw) <= MAX_WIDTH - MARGIN else f"{raw[: MAX_WIDTH - MARGIN - 3]}..."
        # A path fills its line.
        if "/" in rule.name:
            more.insert(0, raw)
        else:
            begin = f"{begin} = {raw}"
    elif len(begin) + len(rule.says) + 2 <= MAX_WIDTH:
        begin, more = f"{begin}: {rule.says}", []
    print_folded(begin, "", MARGIN)
    for text in more:
        print_folded(text, indent=MARGIN)
