"""Programs with Click, Typer and argparse that call `install()`, for the tests of its parts."""

import argparse
import sys
from collections.abc import Callable
from typing import Annotated, Any

import click
import typer
from click.testing import CliRunner as ClickRunner
from typer.testing import CliRunner as TyperRunner

from telemetry_kit.integrations.argparse import install as install_argparse
from telemetry_kit.integrations.click import install as install_click
from telemetry_kit.integrations.typer import install as install_typer

# Given the words of a command line, the exit code.
Run = Callable[..., int]


def work(number: int) -> None:
    """Do what the number asks for: fail in a way, or succeed."""
    if number == 3:
        sys.exit(3)
    if number == 5:
        raise ValueError(number)
    if number == 9:
        raise KeyboardInterrupt


def click_program(**options: Any) -> Run:
    """Make a Click program with a group, a hidden command, a chain and a lazy group."""

    @click.group()
    @click.option("--role")
    @click.version_option("1.0")
    def app(role: str | None) -> None:
        """Acme."""

    @app.command("build", no_args_is_help=True)
    @click.argument("number", type=int)
    def build(number: int) -> None:
        work(number)

    @app.group()
    def db() -> None:
        """Databases."""

    @db.command(hidden=True)
    def migrate() -> None:
        """Migrate."""

    install_click(app, name="flowspec", **options)

    def run(*words: str) -> int:
        return ClickRunner().invoke(app, words, prog_name="flowspec").exit_code

    run.app = app  # type: ignore[attr-defined]
    return run


def typer_program(**options: Any) -> Run:
    """Make a Typer program whose commands are added after `install()`."""
    app = typer.Typer()
    db = typer.Typer()
    install_typer(app, name="flowspec", **options)

    def show_version(value: bool) -> None:
        if value:
            raise typer.Exit

    @app.callback()
    def main(
        role: str | None = None,
        version: Annotated[bool, typer.Option(callback=show_version, is_eager=True)] = False,
    ) -> None:
        """Acme."""

    @app.command(no_args_is_help=True)
    def build(number: int) -> None:
        work(number)

    app.add_typer(db, name="db")

    @db.callback()
    def databases() -> None:
        """Databases."""

    @db.command(hidden=True)
    def migrate() -> None:
        """Migrate."""

    def run(*words: str) -> int:
        return TyperRunner().invoke(app, list(words), prog_name="flowspec").exit_code

    run.app = app  # type: ignore[attr-defined]
    return run


def argparse_program(**options: Any) -> Run:
    """Make an argparse program with an alias and sub-commands in a sub-command."""
    parser = argparse.ArgumentParser(prog="flowspec")
    parser.add_argument("--role")
    parser.add_argument("--version", action="version", version="1.0")
    groups = parser.add_subparsers(required=True)
    build = groups.add_parser("build", aliases=["b"])
    build.add_argument("number", type=int)
    build.set_defaults(func=lambda args: work(args.number))
    db = groups.add_parser("db").add_subparsers(required=True)
    db.add_parser("migrate").set_defaults(func=lambda args: None)
    install_argparse(parser, name="flowspec", **options)

    def run(*words: str) -> int:
        try:
            args = parser.parse_args(words)
            return int(args.func(args) or 0)
        except SystemExit as end:
            return int(end.code or 0)
        except (ValueError, KeyboardInterrupt):
            return 1

    run.app = parser  # type: ignore[attr-defined]
    return run


PROGRAMS: dict[str, Callable[..., Run]] = {
    "click": click_program,
    "typer": typer_program,
    "argparse": argparse_program,
}
INSTALLS: dict[str, Callable[..., None]] = {
    "click": install_click,
    "typer": install_typer,
    "argparse": install_argparse,
}
