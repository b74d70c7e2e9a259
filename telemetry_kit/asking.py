"""`ask_consent()`: the question, when it may be put, and what each answer means.

The words come from `notice`; answers are written down by `control`.
"""

from __future__ import annotations

import os
import sys

from telemetry_kit import catalog, consent, grants, private, settings
from telemetry_kit import gate as gates
from telemetry_kit.consent import Decision
from telemetry_kit.errors import ConsentError, TelemetryError, swallow
from telemetry_kit.home import Home
from telemetry_kit.latch import latch
from telemetry_kit.private import NotPrivateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

YES, NO, LATER = "yes", "no", "later"
QUESTION = "Keep this log? [y/N/later] "
WIDER = "Record this too? [y/N/later] "
_ANSWERS = {"y": YES, "yes": YES, "": NO, "n": NO, "no": NO, "l": LATER, "later": LATER}
_TRIES = 3
_MIN_COLUMNS = 14


def ask_consent(project_root: str | os.PathLike[str] | None = None, *, quiet: bool = False) -> bool:
    """Ask the user whether to record, if and only if that has to be asked.

    It is asked only when stdin and stderr are terminals and the program is in their foreground, no
    veto holds, nothing was decided for this notice, and the answer can be remembered. Enter is
    no; Ctrl-C and end of file decide nothing, and neither does `later`. Ctrl-C is the host's: it
    is raised again.

    Args:
        project_root: a directory inside the project; the working directory by default.
        quiet: never ask: the host was told to be quiet, or to print for machines.

    Returns:
        Whether events are recorded from now on.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C at the question; nothing was decided.
    """
    try:
        start = None if project_root is None else os.path.realpath(os.fsdecode(project_root))
        home = gates.verdict(start).home
        if not quiet and _terminals():
            _ask_if_open(home)
        return gates.is_open(start)
    except TelemetryError:
        return False
    except Exception as error:
        swallow(error)
        return False


def _ask_if_open(home: Home) -> None:
    if gates.is_held():
        return
    decision = consent.decide(home, latch.world.environ)
    if decision.allowed:
        wider = widening(decision)
        if wider and _can_be_kept(home):
            _ask_wider(home, decision, wider)
    elif not decision.vetoed and is_undecided(home, decision) and _can_be_kept(home):
        # A yes would change nothing where a repository around denies.
        if not any(rule.verdict == consent.DENY for rule in consent.nearby(home)):
            _ask_first(home)


def _ask_first(home: Home) -> None:
    from telemetry_kit import control, notice  # deferred: the chain, which nobody asked needs

    answer = ask(notice.lines(home), QUESTION)
    typed = notice.command(home.app)
    if answer == YES:
        if _kept(lambda: control.enable_telemetry(home.root, method="prompt")):
            _say(f"Recording is on. {typed} off stops it.")
    elif answer == NO:
        if _kept(lambda: control.disable_telemetry(home.root, method="prompt")):
            _say(f"Nothing is recorded. {typed} on starts it.")
    else:
        _say("Nothing was decided.")


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
    # A no to an earlier notice does not answer this one; one for all projects is not undone here.
    if decision.rule.everywhere:
        return False
    try:
        data = private.read(decision.rule.name, consent.MAX_RECORD_BYTES, forbidden=0o022)
    except NotPrivateError:
        return False
    if data is None or grants.parse_record(data, grants.today())[0] != "no":
        return False
    return 0 < grants.accepted(data.decode("ascii")).notice < catalog.NOTICE_VERSION


def widening(decision: Decision) -> list[str]:
    """What would be recorded only after a new yes; empty when it was answered already.

    Args:
        decision: what is in force.
    """
    accepted, now = decision.accepted, settings.current()
    if accepted is None or accepted.has_declined(now):
        return []
    return accepted.widened(now)


def _ask_wider(home: Home, decision: Decision, wider: list[str]) -> None:
    from telemetry_kit import control, notice  # deferred: as above

    answer = ask(notice.difference(home.app, wider), WIDER)
    if answer == YES:
        if _kept(lambda: control.accept_widening(home, decision)):
            _say("Recorded from now on.")
    elif answer == NO:
        if _kept(lambda: control.decline_widening(home, decision)):
            _say("It stays as it was.")
    else:
        _say("Nothing was decided; it stays as it was.")


def _kept(step: Callable[[], object]) -> bool:
    """Write an answer down; where that fails, say so."""
    try:
        step()
    except ConsentError as error:
        _say(f"Your answer could not be kept: {error}. Nothing was decided.")
        return False
    return True


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
    for left in range(_TRIES, 0, -1):
        _write("\n".join(_fitted(question.rstrip())) + " ")
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
        if left > 1:
            _say("Please answer y, n or later.")
    return LATER


def _terminals() -> bool:
    """Whether a person is there to be asked: both streams are terminals, and ours to read."""
    streams: tuple[TextIO | None, ...] = (sys.stdin, sys.stderr)
    try:
        if not all(stream is not None and stream.isatty() for stream in streams):
            return False
    except (AttributeError, ValueError):
        return False
    try:
        # A job in the background would be stopped by reading.
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):
        return True


def _can_be_kept(home: Home) -> bool:
    """Whether an answer could be remembered; else the same question would come every time."""
    return all(_is_writable(folder) for folder in (home.config, home.state))


def _is_writable(folder: str) -> bool:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _say(text: str) -> None:
    for line in _fitted(text):
        _write(f"{line}\n")


def _fitted(text: str) -> list[str]:
    """A line as it fits the terminal: broken between words where that is a narrow one."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return [text]
    if len(text) < columns or columns < _MIN_COLUMNS:
        return [text]
    import textwrap  # deferred: only a question needs it, in a narrow terminal

    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(text, columns - 1, subsequent_indent=indent, break_on_hyphens=False)


def _write(text: str) -> None:
    sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii"))
    sys.stderr.flush()
