"""A Click program with a group in a group, of which one command runs.

A line marked `without` is left out, or replaced, in the program that this one is compared with.
"""

import click

from telemetry_kit.integrations.click import install  # without:


@click.group()
@click.option("--verbose", is_flag=True)
def app(verbose: bool) -> None:
    """Do next to nothing."""


@app.command()
@click.argument("task")
def implement(task: str) -> None:
    """Implement a task."""


@app.command()
@click.argument("task")
def review(task: str) -> None:
    """Review a task."""


@app.group()
def db() -> None:
    """Databases."""


@db.command()
def migrate() -> None:
    """Migrate."""


install(app, name="flowspec")  # without:


def main(arguments: list[str]) -> None:
    app(arguments, prog_name="flowspec")
