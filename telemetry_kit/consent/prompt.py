"""`ask_consent()`: when the question is asked, and the effect of each answer.

`consent.notice` has the text. `consent.changes` writes the answers.
"""

from __future__ import annotations

import os
import sys

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache as gates
from telemetry_kit.consent import coding_agents, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent.policy import Decision
from telemetry_kit.errors import ConsentError, TelemetryError, swallow
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import Home
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

YES, NO, LATER = "yes", "no", "later"
QUESTION = "Keep this log? [y/N/later] "
WIDER = "Record this too? [y/N/later] "
_ANSWERS = {"y": YES, "yes": YES, "": NO, "n": NO, "no": NO, "l": LATER, "later": LATER}
_TRIES = 3
_MIN_COLUMNS = 14


def ask_consent(project_root: str | os.PathLike[str] | None = None, *, quiet: bool = False) -> bool:
    """Ask the user whether to record, if and only if that has to be asked.

    It is asked only when stdin and stderr are terminals that read whole lines, the program is in
    their foreground, no veto holds, nothing was decided for this notice, and the answer can be
    remembered. It is not asked in a shell completion, nor when a coding agent runs the program.
    Enter is no; Ctrl-C and end of file decide nothing, and neither does `later`. Ctrl-C is the
    host's: it is raised again.

    Args:
        project_root: a directory inside the project; the working directory by default.
        quiet: never ask: the host was told to be quiet, or to print for machines.

    Returns:
        Whether events are recorded from now on.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C at the question; nothing was decided.

    Example:
        >>> from telemetry_kit import ask_consent, configure
        >>> restore = configure(app="acme")
        >>> ask_consent(quiet=True)
        False
    """
    try:
        start = None if project_root is None else os.path.realpath(os.fsdecode(project_root))
        home = gates.verdict(start).home
        if not quiet and _terminals() and is_person(runtime.world.environ):
            _ask_if_open(home)
        if not gates.is_open(start):
            return False
        # deferred: key and journal, only where recording is on
        from telemetry_kit.consent import obstacles

        return obstacles.is_recording(start)
    except TelemetryError:
        return False
    except Exception as error:
        swallow(error)
        return False


def _ask_if_open(home: Home) -> None:
    if gates.is_held():
        return
    decision = policy.decide(home, runtime.world.environ, every_file=True)
    if decision.allowed:
        wider = widening(decision)
        if wider and _can_be_kept(home):
            _ask_wider(home, decision, wider)
    elif not decision.vetoed and is_undecided(home, decision) and _can_be_kept(home):
        nearby_denies = any(
            rule.verdict == policy.DENY for rule in policy.nearby(home, runtime.world.environ)
        )
        if not nearby_denies:  # else a yes would change nothing
            _ask_first(home)


def _ask_first(home: Home) -> None:
    from telemetry_kit.consent import changes, notice  # deferred: only a question needs them

    before = changes.denials(home)
    answer = ask(notice.lines(home), QUESTION)
    typed = notice.command(home.app)
    if answer == YES:
        if _kept(lambda: changes.accept(home, method="prompt", before=before)):
            why = why_not(home)
            on = f"Recording is on. {typed} off stops it."
            _say(f"Your yes is kept, but {why}." if why else on)
    elif answer == NO:
        if _kept(lambda: changes.refuse(home, method="prompt"), "Nothing is recorded in this run"):
            _say(f"Nothing is recorded. {typed} on starts it.")
    else:
        _say("Nothing was decided.")


def why_not(home: Home) -> str:
    """Why nothing is recorded although the user granted consent; empty where it is.

    Args:
        home: the project's places.
    """
    decision = policy.decide(home, runtime.world.environ)
    if not decision.allowed:
        return f"recording stays off: {decision.rule.says}"
    from telemetry_kit.consent import obstacles  # deferred: as above

    found = obstacles.obstacles(home)
    return f"events cannot be written: {'; '.join(found)}" if found else ""


def is_undecided(home: Home, decision: Decision) -> bool:
    """Whether the user has not answered the present notice.

    Args:
        home: the project's places.
        decision: what is in force.
    """
    if decision.allowed or decision.rule.owner != "user":
        return False
    if decision.rule.verdict != policy.DENY:
        return True
    # A no to an earlier notice does not answer this one; one for all projects is not undone here.
    if decision.rule.everywhere:
        return False
    try:
        data = private.read(decision.rule.name, policy.MAX_RECORD_BYTES)
    except UnsafeFileError:
        return False
    if data is None or consent_decision.parse_record(data, consent_decision.today())[0] != "no":
        return False
    return 0 < consent_decision.accepted(data.decode("ascii")).notice < catalog.NOTICE_VERSION


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
    from telemetry_kit.consent import changes, notice  # deferred: as above

    answer = ask(notice.difference(home.app, wider), WIDER)
    if answer == YES:
        if _kept(lambda: changes.accept_widening(home, decision)):
            _say("Recorded from now on.")
    elif answer == NO:
        if _kept(lambda: changes.decline_widening(home, decision)):
            _say("It stays as it was.")
    else:
        _say("Nothing was decided; it stays as it was.")


def _kept(step: Callable[[], object], otherwise: str = "Nothing was decided") -> bool:
    """Write an answer down; where that fails, say so."""
    try:
        step()
    except ConsentError as error:
        _say(f"Your answer could not be kept: {error}. {otherwise}.")
        return False
    return True


def ask(lines: list[str], question: str) -> str:
    """Put a question on stderr and read the answer from stdin.

    Args:
        lines: what stands before it.
        question: the question itself.

    Returns:
        `yes`, `no` or `later`; end of file, also in the middle of an answer, and three answers
        that are none are `later`. What was typed before the question stood there is no answer.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    for line in _paragraphs(lines):
        _say(line)
    for left in range(_TRIES, 0, -1):
        _drop_what_was_typed()
        _write("\n".join(_fitted(question.rstrip())) + " ")
        try:
            given = sys.stdin.readline()
        except UnicodeDecodeError:
            given = "?\n"
        except KeyboardInterrupt:
            _say("")
            raise
        if not given.endswith("\n"):
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
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return False
    except (AttributeError, OSError, ValueError):
        return True
    return _reads_lines()


def _reads_lines() -> bool:
    """Whether Enter ends a line: not where the host has made the terminal raw for keys."""
    try:
        import termios  # deferred: only a question needs it

        modes = termios.tcgetattr(sys.stdin.fileno())
        return bool(modes[3] & termios.ICANON and modes[0] & termios.ICRNL)
    except Exception:
        return True  # no terminal of this kind


def is_person(environ: Mapping[str, str]) -> bool:
    """Whether a person runs the program: no coding agent, and no shell that completes a word.

    Args:
        environ: the environment variables.
    """
    if coding_agents.invoker(environ) != "person":
        return False
    return not any(value and _completes(name) for name, value in environ.items())


def _completes(name: str) -> bool:
    # Click and Typer are run with _ACME_COMPLETE, argcomplete with _ARGCOMPLETE; bash tells
    # whatever it runs for that about the line.
    is_click = name.startswith("_") and name.endswith("_COMPLETE")
    return is_click or name in ("_ARGCOMPLETE", "COMP_LINE")


def _can_be_kept(home: Home) -> bool:
    """Whether an answer could be remembered; else the same question would come every time."""
    folders = (home.config, home.state)
    return all(private.can_make(f) and private.can_make(f"{f}/projects") for f in folders)


def _drop_what_was_typed() -> None:
    """Nobody has seen the question that a line typed ahead of it would answer."""
    try:
        import termios  # deferred: only a question needs it

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except Exception:
        return  # no terminal of this kind


def _say(text: str) -> None:
    for line in _fitted(text):
        _write(f"{line}\n")


def _columns() -> int:
    """How wide the terminal is; 0 where that is not known, or too little to break lines for."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return 0
    return columns if columns >= _MIN_COLUMNS else 0


def _paragraphs(lines: list[str]) -> list[str]:
    """Lines that were broken for a wider terminal, put together again where this one is narrow."""
    if max(map(len, lines)) < (_columns() or sys.maxsize):
        return lines
    found: list[str] = []
    for line in lines:
        last = found[-1] if found else "."
        if last[-1:] not in ".:?" and _indent(last) == _indent(line):
            found[-1] = f"{last} {line.lstrip()}"
        else:
            found.append(line)
    return found


def _indent(text: str) -> str:
    return " " * (len(text) - len(text.lstrip()))


def _fitted(text: str) -> list[str]:
    """A line as it fits the terminal: broken between words where that is a narrow one."""
    columns = _columns()
    if not columns or len(text) < columns:
        return [text]
    import textwrap  # deferred: only a question needs it, in a narrow terminal

    indent = _indent(text)
    return textwrap.wrap(text, columns - 1, subsequent_indent=indent, break_on_hyphens=False)


def _write(text: str) -> None:
    sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii"))
    sys.stderr.flush()
