"""An argparse program with sub-commands in a sub-command, of which one runs.

A line marked `without` is left out, or replaced, in the program that this one is compared with.
"""

import argparse

from telemetry_kit.integrations.argparse import install  # without:


def work(given: argparse.Namespace) -> int:
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="flowspec", description="Do next to nothing.")
    parser.add_argument("--verbose", action="store_true")
    groups = parser.add_subparsers(required=True)
    for name in ("implement", "review"):
        command = groups.add_parser(name, help=f"{name} a task")
        command.add_argument("task")
        command.set_defaults(func=work)
    db = groups.add_parser("db").add_subparsers(required=True)
    db.add_parser("migrate").set_defaults(func=work)
    install(parser, name="flowspec")  # without:
    given = parser.parse_args(arguments)
    code: int = given.func(given)
    return code
