"""The command line of the Hugging Face Hub: Typer, with apps in an app."""

from huggingface_hub.cli import hf

from telemetry_kit.integrations.typer import install

install(hf.app, name="hf")
hf.main()
