"""A Typer program with an app in an app, of which one command runs.

A line marked `without` is left out, or replaced, in the program that this one is compared with.
"""

import typer

from telemetry_kit.integrations.typer import install  # without:

app = typer.Typer()
db = typer.Typer()
app.add_typer(db, name="db")


@app.callback()
def verbosely(verbose: bool = False) -> None:
    """Do next to nothing."""


@app.command()
def implement(task: str) -> None:
    """Implement a task."""


@app.command()
def review(task: str) -> None:
    """Review a task."""


@db.command()
def migrate() -> None:
    """Migrate."""


install(app, name="flowspec")  # without:


def main(arguments: list[str]) -> None:
    app(arguments, prog_name="flowspec")
