"""`ask_consent()`: the question, when it may be put, and what each answer means.

The words come from `notice`; answers are written down by `control`.
"""

from __future__ import annotations

import sys

from telemetry_kit import catalog, consent, control, notice, private, settings
from telemetry_kit.consent import Decision
from telemetry_kit.errors import TelemetryError, swallow
from telemetry_kit.home import Home
from telemetry_kit.latch import latch
from telemetry_kit.private import NotPrivateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import TextIO

YES, NO, LATER = "yes", "no", "later"
QUESTION = "Keep this log? [y/N/later] "
WIDER = "Record this too? [y/N/later] "
_ANSWERS = {"y": YES, "yes": YES, "": NO, "n": NO, "no": NO, "l": LATER, "later": LATER}
_TRIES = 3


def ask_consent(project_root: str | os.PathLike[str] | None = None, *, quiet: bool = False) -> bool:
    """Ask the user whether to record, if and only if that has to be asked.

    It is asked only when stdin and stderr are terminals, no veto holds, and nothing was decided
    for this notice. Enter is no; Ctrl-C and end of file decide nothing, and neither does `later`.
    Ctrl-C is the host's: it is raised again.

    Args:
        project_root: a directory inside the project; the working directory by default.
        quiet: never ask: the host was told to be quiet, or to print for machines.

    Returns:
        Whether events are recorded from now on.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C at the question; nothing was decided.
    """
    try:
        home = control.home_of(project_root)
        if not quiet and _terminals():
            _ask_if_open(home)
        return control.is_telemetry_enabled(home.root)
    except TelemetryError:
        return False
    except Exception as error:
        swallow(error)
        return False


def _ask_if_open(home: Home) -> None:
    decision = consent.decide(home, latch.world.environ)
    wider = widening(decision)
    if decision.allowed:
        if wider:
            _ask_wider(home, decision, wider)
        return
    if decision.vetoed or not is_undecided(home, decision):
        return
    answer = ask(notice.lines(home), QUESTION)
    if answer == YES:
        control.enable_telemetry(home.root, method="prompt")
        _say("Thank you: recording is on. telemetry-kit off stops it.")
    elif answer == NO:
        control.disable_telemetry(home.root, method="prompt")
        _say("Nothing is recorded. telemetry-kit on starts it.")


def is_undecided(home: Home, decision: Decision) -> bool:
    """Whether the user has not answered the present notice.

    Args:
        home: the project's places.
        decision: what is in force.
    """
    if decision.allowed or decision.rule.owner != "user":
        return False
    if decision.rule.verdict != consent.DENY:
        return True
    # A no to an earlier notice does not answer this one.
    try:
        data = private.read(decision.rule.name, consent.MAX_RECORD_BYTES, forbidden=0o022)
    except NotPrivateError:
        return False
    if data is None or consent.parse_record(data, consent.today())[0] != "no":
        return False
    return 0 < consent.accepted(data.decode("ascii")).notice < catalog.NOTICE_VERSION


def widening(decision: Decision) -> list[str]:
    """What would be recorded only after a new yes; empty when it was answered already.

    Args:
        decision: what is in force.
    """
    accepted = decision.accepted
    if accepted is None:
        return []
    now = settings.current()
    if accepted.declined == consent.scope_fingerprint(now):
        return []
    return accepted.widened(now)


def _ask_wider(home: Home, decision: Decision, wider: list[str]) -> None:
    shown = [
        f"The usage log of {home.app} could record more than you said yes to:",
        *(f"  {sentence}" for sentence in wider[:10]),
        *([f"  and {len(wider) - 10} more"] if len(wider) > 10 else []),
        "Until you say yes, it records what it did before.",
    ]
    answer = ask(shown, WIDER)
    if answer == YES:
        everywhere = decision.rule.everywhere
        control.enable_telemetry(home.root, all_projects=everywhere, method="prompt")
        _say("Recorded from now on.")
    elif answer == NO:
        control.decline_widening(home, decision.rule.name)
        _say("It stays as it was.")


def ask(lines: list[str], question: str) -> str:
    """Put a question on stderr and read the answer from stdin.

    Args:
        lines: what stands before it.
        question: the question itself.

    Returns:
        `yes`, `no` or `later`; end of file and three answers that are none are `later`.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    for line in lines:
        _say(line)
    for _ in range(_TRIES):
        _write(question)
        try:
            given = sys.stdin.readline()
        except UnicodeDecodeError:
            given = "?\n"
        except KeyboardInterrupt:
            _say("")
            raise
        if not given:
            _say("")
            return LATER
        answer = _ANSWERS.get(given.strip().casefold())
        if answer is not None:
            return answer
        _say("Please answer y, n or later.")
    return LATER


def _terminals() -> bool:
    streams: tuple[TextIO | None, ...] = (sys.stdin, sys.stderr)
    try:
        return all(stream is not None and stream.isatty() for stream in streams)
    except (AttributeError, ValueError):
        return False


def _say(text: str) -> None:
    _write(f"{text}\n")


def _write(text: str) -> None:
    sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii"))
    sys.stderr.flush()
