"""bump-my-version: rich-click."""

from bumpversion.cli import cli

from telemetry_kit.integrations.click import install

install(cli, name="bump-my-version")
cli()
