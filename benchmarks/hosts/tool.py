"""A command-line tool with twenty commands, of which one runs.

A line marked `without` is left out, or replaced, in the program that this one is compared with.
"""

import argparse

from telemetry_kit import RoleEvent, configure, tracks  # without:

configure(app="flowspec")  # without:


@tracks(RoleEvent.AGENT_INVOKED, agent="product-analyst")  # without:
def assess(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="product-analyst")  # without:
def clarify(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="product-analyst")  # without:
def specify(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="architect")  # without:
def plan(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="architect")  # without:
def design(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")  # without:
def implement(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")  # without:
def build(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="quality-guardian")  # without:
def test(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="quality-guardian")  # without:
def review(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="security-engineer")  # without:
def audit(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="security-engineer")  # without:
def scan(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="security-engineer")  # without:
def harden(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="release-manager")  # without:
def release(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="release-manager")  # without:
def deploy(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="release-manager")  # without:
def observe(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="release-manager")  # without:
def rollback(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="tech-writer")  # without:
def document(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="tech-writer")  # without:
def translate(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="tech-writer")  # without:
def archive(task: str) -> int:
    return len(task)


@tracks(RoleEvent.AGENT_INVOKED, agent="tech-writer")  # without:
def retire(task: str) -> int:
    return len(task)


COMMANDS = {
    f.__name__: f
    for f in (
        assess,
        clarify,
        specify,
        plan,
        design,
        implement,
        build,
        test,
        review,
        audit,
        scan,
        harden,
        release,
        deploy,
        observe,
        rollback,
        document,
        translate,
        archive,
        retire,
    )
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="A tool that does next to nothing.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("task")
    given = parser.parse_args(arguments)
    return 0 if COMMANDS[given.command](given.task) else 1
