"""A short command: one session, in which one agent is invoked; three events.

A line marked `without` is left out, or replaced, in the program that this one is compared with.
"""

import argparse  # noqa: F401 - a real one has it

from telemetry_kit import RoleEvent, configure, role_session, tracks  # without:

configure(app="flowspec")  # without:


@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")  # without:
def implement(task: str) -> int:
    return len(task)


def main(arguments: list[str]) -> int:
    with role_session("dev", command="/flow:implement"):  # without: if True:
        done = implement(arguments[1])
    return 0 if done else 1
