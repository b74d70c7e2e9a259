"""HTTPie: argparse without sub-commands, for a tool without projects."""

import sys

from httpie.cli.definition import parser
from httpie.core import program, raw_main

from telemetry_kit import configure
from telemetry_kit.integrations.argparse import install

configure(app="http", scope="user")
parser.set_defaults(func=program)
install(parser, name="http")
sys.exit(raw_main(parser, lambda args, env: args.func(args, env), sys.argv))
