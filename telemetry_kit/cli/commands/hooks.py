"""`telemetry-kit hooks`: install the hooks of coding agents, take them away, or show them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from telemetry_kit._runtime import runtime
from telemetry_kit.agents import installation
from telemetry_kit.agents.hook_files import AGENTS, NAMES, Agent, HooksError
from telemetry_kit.agents.installation import INSTALLED, MISSING, PASTED, Found
from telemetry_kit.cli import arguments, output, tables
from telemetry_kit.cli.output import FAILED, CommandError, info
from telemetry_kit.consent import changes, policy
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import newest
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.segments import ReadReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTIONS = ("install", "uninstall", "status")
STATES = {INSTALLED: "installed", PASTED: "in your own file"}


def run(
    project: str | None, action: str, agents: tuple[str, ...], app: str | None, as_json: bool
) -> int | None:
    """Install, uninstall or show the hooks of coding agents.

    Returns:
        1 if the hooks of an agent are not as the user wants them.

    Raises:
        CommandError: the action or an agent is unknown, or no agent was found.
    """
    del app  # the app was selected before
    arguments.check_choice("hooks", action, ACTIONS)
    for name in agents:
        arguments.check_choice("--for", name, NAMES)
    paths = changes.paths_of(project)
    selected = [agent for agent in AGENTS if not agents or agent.name in agents]
    if action == "status":
        return show(paths, selected, as_json)
    if action == "install":
        return install(paths, selected, is_named=bool(agents))
    return uninstall(selected, paths.app)


def install(paths: ProjectPaths, selected: Sequence[Agent], is_named: bool) -> int | None:
    """Install the hooks of each selected agent that the user has.

    Raises:
        CommandError: there is none.
    """
    environ = runtime.environ
    if not is_named:
        selected = [agent for agent in selected if agent.is_present(environ)]
    if not selected:
        names = "|".join(NAMES)
        raise CommandError(f"no coding agent was found: name one with --for {names}")
    results = [install_one(agent, paths.app) for agent in selected]
    if not policy.decide(paths, environ).allowed:
        info(f"Nothing is recorded without consent: {runtime.command_line} enable")
    return None if all(results) else FAILED


def install_one(agent: Agent, app: str) -> bool:
    """Install the hooks of one agent, and return whether they are complete now."""
    try:
        found, is_changed = installation.install(agent, app, runtime.environ)
    except (HooksError, OSError) as error:
        info(f"{agent.title}: nothing was installed: {installation.reason(error)}.")
        return False
    if found.state == INSTALLED:
        info(f"{agent.title}: {'' if is_changed else 'already '}installed in {found.path}.")
    elif found.state == PASTED and app in found.apps:
        info(f"{agent.title}: already in your own file {found.path}.")
    else:
        return print_to_paste(agent, found, app)
    if agent.remark:
        info(f"  {agent.remark}")
    return True


def print_to_paste(agent: Agent, found: Found, app: str) -> bool:
    """Print what the user can paste, where a file of another author is in the way."""
    apps = found.apps if app in found.apps else (*found.apps, app)
    try:
        text = installation.content(agent, apps)
    except HooksError as error:
        info(f"{agent.title}: nothing was installed: {error}.")
        return False
    info(f"{agent.title}: {found.path} is {found.what}, so nothing was changed.")
    what = "instead of those" if found.state == PASTED else "to your own"
    info(f"  Add these hooks {what}{f': {agent.remark}' if agent.remark else ':'}")
    print(text, end="")
    return False


def uninstall(selected: Sequence[Agent], app: str) -> int | None:
    """Take away the hooks of each selected agent."""
    deleted, failures = installation.uninstall_all(app, runtime.environ, selected)
    for path in deleted:
        info(f"Deleted: {path}")
    for sentence in failures:
        info(f"Not deleted: {sentence}.")
    if not deleted and not failures:
        info(f"No hooks of {app} are installed.")
    return FAILED if failures else None


# -- status --------------------------------------------------------------------------------------


def show(paths: ProjectPaths, selected: Sequence[Agent], as_json: bool) -> int | None:
    """Show the hooks of each agent, with the last event that they recorded.

    Returns:
        1 if installed hooks do nothing, because their program is missing.
    """
    found = {agent: installation.find(agent, runtime.environ) for agent in selected}
    counted = [agent.invoker for agent, one in found.items() if one.state in STATES]
    last = last_events(paths, counted) if counted else {}
    rows = [facts(agent, one, last.get(agent.invoker)) for agent, one in found.items()]
    is_broken = any(one.is_broken for one in found.values())
    if as_json:
        print(json.dumps({"app": paths.app, "agents": rows}))
        return FAILED if is_broken else None
    columns = [
        tables.Column("agent", [row["title"] for row in rows], can_fold=True),
        tables.Column("hooks", [words_of(row) for row in rows]),
        tables.Column("tool", [", ".join(row["apps"]) or "-" for row in rows], can_fold=True),
        tables.Column(f"last event of {paths.app}", [last_words(row) for row in rows]),
    ]
    for line in tables.table(columns, output.width()):
        print(line)
    for agent, one in found.items():
        if one.is_broken:
            remedy = f"{runtime.command_line} hooks install --for {agent.name}"
            info(f"{agent.title}: {one.script} is missing, so the hooks do nothing: {remedy}")
    return FAILED if is_broken else None


def facts(agent: Agent, found: Found, last: Event | None) -> dict[str, Any]:
    """Return the facts about the hooks of one agent, as `--json` prints them."""
    event = last and {"day": last["timestamp"][:10], "event_type": last["event_type"]}
    return {
        "agent": agent.name,
        "title": agent.title,
        "present": agent.is_present(runtime.environ),
        "hooks": found.state,
        "path": found.path,
        "apps": list(found.apps),
        "program": found.script or None,
        "broken": found.is_broken,
        "last_event": event,
    }


def words_of(row: Mapping[str, Any]) -> str:
    """Return the state of the hooks of one agent."""
    if row["broken"]:
        return "program missing"
    if row["hooks"] == MISSING:
        return "not installed" if row["present"] else "agent not found"
    state: str = row["hooks"]
    return STATES.get(state, state)


def last_words(row: Mapping[str, Any]) -> str:
    """Return the day and the type of the last event of one agent."""
    event = row["last_event"]
    return f"{event['day']} {event['event_type']}" if event else "-"


def last_events(paths: ProjectPaths, invokers: Sequence[str]) -> dict[str, Event]:
    """Return the last event that the hooks of each agent recorded, in any project of the app."""
    query = Query(fields={"source": "hook", "invoker": frozenset(invokers)})
    found: dict[str, Event] = {}
    for one in changes.all_project_paths(paths):
        # Only the newest event of each agent counts, and a log may have none of some agents.
        last: dict[str, Event] = {}
        for event in newest(one, sys.maxsize, query, ReadReport()):
            last.setdefault(event["invoker"], event)
            if len(last) == len(invokers):
                break
        for invoker, event in last.items():
            known = found.setdefault(invoker, event)
            if known["timestamp"] < event["timestamp"]:
                found[invoker] = event
    return found
