"""`python -m telemetry_kit`: the command line."""

import sys

from telemetry_kit.cli import main

sys.exit(main())
