"""`telemetry-kit status`: is recording on here, who decided that, and does it work."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

from telemetry_kit import consent, control, grants, privacy, settings
from telemetry_kit.cli.terminal import USAGE, Problem, out, safe
from telemetry_kit.consent import Decision, Rule
from telemetry_kit.errors import ConsentError, KeyUnavailableError
from telemetry_kit.home import Home
from telemetry_kit.journal import archive, upkeep
from telemetry_kit.latch import latch

RECORDING, OFF, VETOED, OUTDATED = 0, 10, 11, 12


def status(
    context: typer.Context,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every rule and what it said.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    simulate: Annotated[
        list[str] | None,
        typer.Option("--simulate", metavar="VAR=VALUE", help="As if this variable were set."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit with 0 recording, 10 off, 11 vetoed, 12 notice outdated."
        ),
    ] = False,
) -> None:
    """Say whether events are recorded here, and why.

    Raises:
        Problem: `--simulate` is not written as VAR=VALUE.
    """
    home = control.home_of(context.obj.project)
    environ = _simulated(simulate or [])
    decision = consent.decide(home, environ)
    rules = list(consent.rules(home, environ, every=True)) if explain else []
    trouble = [*upkeep.trouble(home), *_key_trouble(home, decision)]
    if as_json:
        out(json.dumps(_as_json(home, decision, rules, trouble)))
    else:
        _print(home, decision, rules, trouble)
    if check:
        raise typer.Exit(code_of(decision))


def _simulated(settings_given: list[str]) -> dict[str, str]:
    environ = dict(latch.world.environ)
    for given in settings_given:
        name, equals, value = given.partition("=")
        if not name or not equals:
            raise Problem(f"--simulate {given[:40]!r}: write it as VAR=VALUE", USAGE)
        environ[name] = value
    return environ


def code_of(decision: Decision) -> int:
    """The exit code of `status --check`."""
    if decision.allowed:
        return OUTDATED if _not_yet(decision) else RECORDING
    return VETOED if decision.vetoed else OFF


def _not_yet(decision: Decision) -> list[str]:
    """What would be recorded after a new yes only."""
    accepted = decision.accepted
    return [] if accepted is None else accepted.widened(settings.current())


def _is_declined(decision: Decision) -> bool:
    fingerprint = grants.scope_fingerprint(settings.current())
    return decision.accepted is not None and decision.accepted.declined == fingerprint


def _kept_days(decision: Decision) -> int:
    days = settings.current().retention_days
    return days if decision.accepted is None else min(days, decision.accepted.keep_days)


def _print(home: Home, decision: Decision, rules: list[Rule], trouble: list[str]) -> None:
    state = "on" if decision.allowed else "vetoed" if decision.vetoed else "off"
    out(f"Recording is {state}: {safe(decision.rule.says)}.")
    when = "you said no to it" if _is_declined(decision) else "only after a new yes"
    for sentence in _not_yet(decision):
        out(f"  not yet  {safe(sentence)}: {when}")
    out(f"  app      {home.app}")
    out(f"  project  {safe(home.root)}")
    size = upkeep.size(home)
    days = _kept_days(decision)
    oldest = archive.oldest_day(home) if size else None
    out(f"  events   {safe(home.log)} ({_bytes(size)})" if size else "  events   none yet")
    out(f"  kept     {days} days" + (f"; the oldest line is of {oldest}" if oldest else ""))
    for sentence in trouble:
        out(f"  trouble  {safe(sentence)}")
    if rules:
        out()
    for rule in rules:
        mark = ">" if _same(rule, decision.rule) else " "
        raw = "-" if rule.raw is None else repr(rule.raw)[1:-1][:60]
        out(f"{mark} {rule.owner:<11} {rule.verdict:<7} {safe(rule.name)} = {safe(raw)}")
        out(f"  {'':<11} {'':<7} {safe(rule.says)}")
    if rules:
        out()
        out("Any denial wins; only you can grant. The rule marked > decided.")


def _same(rule: Rule, decisive: Rule) -> bool:
    return (rule.owner, rule.name, rule.verdict) == (
        decisive.owner,
        decisive.name,
        decisive.verdict,
    )


def _as_json(
    home: Home, decision: Decision, rules: list[Rule], trouble: list[str]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "recording": decision.allowed,
        "vetoed": decision.vetoed,
        "reason": decision.rule.says,
        "decided_by": {"owner": decision.rule.owner, "name": decision.rule.name},
        "app": home.app,
        "project": home.root,
        "log": home.log,
        "bytes": upkeep.size(home),
        "retention_days": _kept_days(decision),
        "oldest_day": archive.oldest_day(home),
        "notice": None if decision.accepted is None else decision.accepted.notice,
        "not_yet": _not_yet(decision),
        "declined": _is_declined(decision),
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


def _key_trouble(home: Home, decision: Decision) -> list[str]:
    if not decision.allowed:
        return []
    try:
        place = consent.place_of(home)
        if place is None:
            return []
        path = privacy.key_path(home, place)
        # No folder yet: the first event in this project makes the key.
        if os.path.isdir(os.path.dirname(path)):
            privacy.load(path)
    except (ConsentError, KeyUnavailableError) as error:
        return [f"nothing is recorded without a key: {error}"]
    return []


def _bytes(size: int) -> str:
    return f"{size} bytes" if size < 10_000 else f"{size / 1e6:.2f} MB"
