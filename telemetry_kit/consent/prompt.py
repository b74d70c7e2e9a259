"""`ask_consent()`: when the question is asked, and the effect of each answer.

`consent.notice` has the text. `consent.changes` writes the answers.
"""

from __future__ import annotations

import os
import sys

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache, coding_agents, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent.policy import Decision
from telemetry_kit.errors import ConsentError, TelemetryError, swallow
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

YES, NO, ALWAYS, NEVER, LATER = "yes", "no", "always", "never", "later"
QUESTION = "Start recording? [y/N, for all projects always/never, or later] "
ALL_PROJECTS_QUESTION = "Start recording? [y/N/later] "
EXTENSION_QUESTION = "Record this, too? [y/N/later] "
_ANSWERS = {"y": YES, "yes": YES, "": NO, "n": NO, "no": NO, "l": LATER, "later": LATER}
_ANSWERS_FOR_ALL = {"always": ALWAYS, "never": NEVER}
_TRIES = 3
_MIN_COLUMNS = 14


def ask_consent(project_root: str | os.PathLike[str] | None = None, *, quiet: bool = False) -> bool:
    """Ask the user whether to record, if the user has not answered yet.

    The question is asked only if stdin and stderr are terminals that read whole lines, the program
    runs in their foreground, no veto applies, and the answer can be saved. It is not asked in a
    shell completion, nor if a coding agent runs the program. Enter denies consent. Ctrl-C, end of
    file and `later` decide nothing.

    Example:
        >>> from telemetry_kit import ask_consent, configure
        >>> with configure(app="acme"):
        ...     recording = ask_consent()

    Args:
        project_root: a directory inside the project; the working directory by default.
        quiet: never ask, because the user wants no messages or reads them with a program.

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
    return ask_undecided(project_root, quiet=quiet)


def ask_undecided(
    project_root: str | os.PathLike[str] | None = None,
    *,
    quiet: bool = False,
    prepare: Callable[[], None] | None = None,
) -> bool:
    """Ask as `ask_consent()` does, with one more argument.

    Args:
        prepare: called before a question is shown, to declare the names that it lists.
    """
    try:
        start = None if project_root is None else os.path.realpath(os.fsdecode(project_root))
        paths = cache.lookup(start).paths
        if not quiet and not runtime.is_denied and _terminals() and is_person(runtime.environ):
            _ask_if_needed(paths, prepare)
        if not cache.is_allowed(start):
            return False
        # deferred: key and journal, only where recording is on
        from telemetry_kit.consent import obstacles

        return obstacles.is_recording(start)
    except TelemetryError:
        return False
    except Exception as error:
        swallow(error)
        return False


def _ask_if_needed(paths: ProjectPaths, prepare: Callable[[], None] | None) -> None:
    """Ask for a first grant or for an extension, unless the user has answered."""
    decision = policy.decide(paths, runtime.environ, every_file=True)
    extension = pending_extension(decision)
    if not extension and (decision.vetoed or not is_undecided(decision)):
        return
    # An answer that cannot be saved would be asked for in each run.
    for folder in (paths.config, paths.state):
        if not (private.can_make(folder) and private.can_make(f"{folder}/projects")):
            return
    if extension:
        _ask_extension(paths, decision, extension)
    elif all(rule.verdict != policy.DENY for rule in policy.nearby(paths, runtime.environ)):
        if prepare is not None:
            prepare()
        _ask_first(paths)


def _ask_first(paths: ProjectPaths) -> None:
    from telemetry_kit.consent import changes, notice  # deferred: only a question needs them

    before = changes.denials(paths)
    answer = ask(notice.lines(paths), QUESTION)
    command = runtime.command_line
    everywhere = answer in (ALWAYS, NEVER)
    where = " for all projects" if everywhere else ""
    option = " --all-projects" if everywhere else ""
    if answer in (YES, ALWAYS):
        if _saved(
            lambda: changes.grant(paths, all_projects=everywhere, method="prompt", before=before)
        ):
            why = why_not(paths)
            on = f"Recording is on{where}. {command} off{option} stops it."
            _print(f"Your consent is saved, but {why}." if why else on)
    elif answer in (NO, NEVER):
        off = "Nothing is recorded in this run"
        if _saved(lambda: changes.deny(paths, all_projects=everywhere, method="prompt"), off):
            _print(f"Recording is off{where}. {command} on{option} starts it.")
    else:
        _print("Nothing was decided.")


def why_not(paths: ProjectPaths) -> str:
    """Why nothing is recorded although the user granted consent; empty if events are recorded."""
    decision = policy.decide(paths, runtime.environ)
    if not decision.allowed:
        return f"recording stays off: {decision.rule.says}"
    from telemetry_kit.consent import obstacles  # deferred: as above

    found = obstacles.obstacles(paths)
    return f"events cannot be written: {'; '.join(found)}" if found else ""


def is_undecided(decision: Decision) -> bool:
    """Whether the user has not answered the present notice."""
    rule = decision.rule
    if decision.allowed or rule.owner != "user":
        return False
    if rule.verdict != policy.DENY:
        return True
    # A denial of an earlier notice does not answer this one. One for all projects stays.
    if rule.everywhere:
        return False
    try:
        data = private.read(rule.name, policy.MAX_RECORD_BYTES)
    except UnsafeFileError:
        return False
    if data is None or consent_decision.parse_record(data, consent_decision.today())[0] != "no":
        return False
    return 0 < consent_decision.parse_grant(data.decode("ascii")).notice < catalog.NOTICE_VERSION


def pending_extension(decision: Decision) -> list[str]:
    """What would be recorded only after another grant; empty if the user has denied that."""
    grant, now = decision.grant, settings.current()
    if grant is None or grant.has_declined(now):
        return []
    return grant.scope_extension(now)


def _ask_extension(paths: ProjectPaths, decision: Decision, extension: list[str]) -> None:
    from telemetry_kit.consent import changes, notice  # deferred: as above

    answer = ask(notice.difference(paths.app, extension), EXTENSION_QUESTION)
    if answer == LATER:
        _print("Nothing was decided. Recording continues as before.")
    elif _saved(lambda: changes.answer_extension(paths, decision, is_granted=answer == YES)):
        unchanged = "Recording continues as before."
        _print("This is recorded from now on." if answer == YES else unchanged)


def _saved(step: Callable[[], object], otherwise: str = "Nothing was decided") -> bool:
    """Save an answer; prints the reason and returns False if that fails."""
    try:
        step()
    except ConsentError as error:
        _print(f"Your answer could not be saved: {error}. {otherwise}.")
        return False
    return True


def ask(lines: list[str], question: str) -> str:
    """Print a question to stderr and read the answer from stdin.

    Args:
        lines: the text before the question.
        question: the question itself.

    Returns:
        `yes`, `no` or `later`, and where the question offers them `always` or `never`. End of
        file, also inside an answer, and three unknown answers are `later`. Input that was typed
        before the question is discarded.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    for line in _paragraphs(lines):
        _print(line)
    answers = {**_ANSWERS, **_ANSWERS_FOR_ALL} if "always" in question else _ANSWERS
    for left in range(_TRIES, 0, -1):
        _discard_input()
        _write("\n".join(_fitted(question.rstrip())) + " ")
        try:
            given = sys.stdin.readline()
        except UnicodeDecodeError:
            given = "?\n"
        except KeyboardInterrupt:
            _print("")
            raise
        if not given.endswith("\n"):
            _print("")
            return LATER
        answer = answers.get(given.strip().casefold())
        if answer is not None:
            return answer
        if left > 1:
            more = "" if answers is _ANSWERS else ", always, never"
            _print(f"Please answer y, n{more} or later.")
    return LATER


def _terminals() -> bool:
    """Whether a person can answer: both streams are terminals, and this process may read."""
    streams: tuple[TextIO | None, ...] = (sys.stdin, sys.stderr)
    try:
        if not all(stream is not None and stream.isatty() for stream in streams):
            return False
    except (AttributeError, ValueError):
        return False
    try:
        # The system stops a background job that reads.
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return False
    except (AttributeError, OSError, ValueError):
        return True
    try:
        import termios  # deferred: only a question needs it

        # In raw mode, which hosts use for single keys, Enter does not end a line.
        modes = termios.tcgetattr(sys.stdin.fileno())
        return bool(modes[3] & termios.ICANON and modes[0] & termios.ICRNL)
    except Exception:
        return True  # no terminal of this kind


def is_person(environ: Mapping[str, str]) -> bool:
    """Whether a person runs the program: no coding agent, and no shell that completes a word."""
    if coding_agents.invoker(environ) != "person":
        return False
    # Click and Typer set _ACME_COMPLETE, argcomplete sets _ARGCOMPLETE, and bash COMP_LINE.
    return not any(
        value
        and (
            name in ("_ARGCOMPLETE", "COMP_LINE") or (name[:1] == "_" and name[-9:] == "_COMPLETE")
        )
        for name, value in environ.items()
    )


def _discard_input() -> None:
    """Discard a line that was typed before the user could read the question."""
    try:
        import termios  # deferred: only a question needs it

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    except Exception:
        return  # no terminal of this kind


def _print(text: str) -> None:
    for line in _fitted(text):
        _write(f"{line}\n")


def _columns() -> int:
    """The width of the terminal; 0 if it is unknown, or too small to break lines for."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return 0
    return columns if columns >= _MIN_COLUMNS else 0


def _paragraphs(lines: list[str]) -> list[str]:
    """Join lines that were broken for a wider terminal, if this one is narrow."""
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
    """Break a line between words if the terminal is too narrow for it."""
    columns = _columns()
    if not columns or len(text) < columns:
        return [text]
    import textwrap  # deferred: only a question needs it, in a narrow terminal

    indent = _indent(text)
    return textwrap.wrap(text, columns - 1, subsequent_indent=indent, break_on_hyphens=False)


def _write(text: str) -> None:
    sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii"))
    sys.stderr.flush()
