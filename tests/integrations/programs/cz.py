"""Commitizen: argparse, with sub-commands whose functions are classes."""

from commitizen import cli

from telemetry_kit.integrations.argparse import install

make_parser = cli.cli


def make_and_install(data):
    parser = make_parser(data)
    install(parser, name="cz")
    return parser


cli.cli = make_and_install
cli.main()
