"""The modules for tracing libraries are the only ones that import them."""

import pytest


def test_nothing_else_imports_a_tracing_library(place) -> None:
    """Neither the package nor a recorded event imports OpenTelemetry or the Agents SDK."""
    done = place.run(
        "import sys\n"
        "from telemetry_kit import *\n"
        "assert track_role_event('agent.invoked', agent='x')\n"
        "print(sorted({'opentelemetry', 'agents'} & set(sys.modules)))\n"
    )

    assert ("[]\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("module", "library", "install"),
    [
        ("otel", "opentelemetry", "pip install 'telemetry-kit[otel]'"),
        ("openai_agents", "agents", "pip install openai-agents"),
    ],
)
def test_a_library_that_is_missing(undecided, module: str, library: str, install: str) -> None:
    """The error names the library and how to install it."""
    done = undecided.run(
        f"import sys; sys.modules[{library!r}] = None; import telemetry_kit.integrations.{module}"
    )

    assert done.stderr.splitlines()[-1].endswith(install)
    assert "During handling" not in done.stderr
