"""The command line of Globus: Click, with groups that load their commands when they are used."""

from globus_cli import main

from telemetry_kit.integrations.click import install

install(main, name="globus")
main()
