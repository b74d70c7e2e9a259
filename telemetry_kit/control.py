"""Turning recording on and off, and deleting what was recorded: consent first, then the rest.

The words shown to people are not here.
"""

from __future__ import annotations

import os

from telemetry_kit import consent, privacy, private, settings
from telemetry_kit import gate as gates
from telemetry_kit.errors import ConsentError, Refused
from telemetry_kit.home import Home, find
from telemetry_kit.latch import latch
from telemetry_kit.private import NotPrivateError, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")
    Path = str | os.PathLike[str]


def home_of(project_root: Path | None = None) -> Home:
    """The places of the configured app for a directory.

    Raises:
        ConsentError: there is no such place.
    """
    start = None if project_root is None else os.path.realpath(os.fsdecode(project_root))
    try:
        return find(settings.current().app, start, latch.world.environ)
    except Refused as refusal:
        raise ConsentError(refusal.reason) from None


def is_telemetry_enabled(project_root: Path | None = None) -> bool:
    """Whether an event from here would be recorded now.

    Args:
        project_root: a directory inside the project; the working directory by default.
    """
    try:
        return gates.is_open(
            None if project_root is None else os.path.realpath(os.fsdecode(project_root))
        )
    except (OSError, ValueError, TypeError):
        return False


def enable_telemetry(project_root: Path | None = None, *, all_projects: bool = False) -> bool:
    """Write down that the user said yes. Call it only when the user did.

    Args:
        project_root: a directory inside the project; the working directory by default.
        all_projects: for all projects of this app instead of this one.

    Returns:
        Whether events are recorded now: a veto may still hold.

    Raises:
        ConsentError: it could not be written; nothing was decided.
    """
    home = home_of(project_root)
    place = _decide(home, "yes", all_projects)
    path = privacy.key_path(home, place)
    if not os.path.lexists(path):
        _attempt(lambda: privacy.create(path, latch.world.now()), "the key")
    return is_telemetry_enabled(home.root)


def disable_telemetry(project_root: Path | None = None, *, all_projects: bool = False) -> None:
    """Write down that the user said no, also where a veto holds already.

    Running processes stop at their next event. What was recorded stays until `clear`.

    Args:
        project_root: a directory inside the project; the working directory by default.
        all_projects: for all projects of this app instead of this one.

    Raises:
        ConsentError: it could not be written; nothing was decided.
    """
    from telemetry_kit.journal import upkeep  # deferred: 1 ms that no recording program needs

    home = home_of(project_root)
    _decide(home, "no", all_projects)
    upkeep.seal(home, consent.today())


def clear(home: Home) -> list[str]:
    """Delete the stored events of a project, and the key that made their pseudonyms.

    The key goes first: what could not be deleted can no longer be linked to anybody.

    Returns:
        The files that could not be deleted, each with the reason.
    """
    from telemetry_kit.journal import upkeep  # deferred: as above

    survivors: list[str] = []
    try:
        place = consent.place_of(home)
        if place is not None and os.path.lexists(privacy.key_path(home, place)):
            privacy.replace(privacy.key_path(home, place), latch.world.now())
    except (ConsentError, OSError) as error:
        survivors.append(
            f"the key ({error if isinstance(error, ConsentError) else name_of(error)})"
        )
    survivors += upkeep.clear(home)
    gates.forget()
    return survivors


def _decide(home: Home, decision: str, all_projects: bool) -> str:
    place = _attempt(lambda: _place(home), "the consent record")
    path = f"{home.config}/{consent.RECORD}"
    if not all_projects:
        path = f"{home.config}/projects/{place}/{consent.RECORD}"
    _attempt(lambda: _record(path, decision), "the consent record")
    gates.forget()
    return place


def _place(home: Home) -> str:
    place = consent.place_of(home)
    if place is None:
        private.create(home.place_key, os.urandom(32))
        place = consent.place_of(home)
    assert place is not None
    return place


def _record(path: str, decision: str) -> None:
    line = consent.render_record(decision, consent.scope_fingerprint(), consent.today())
    try:
        old = private.read(path, consent.MAX_RECORD_BYTES, forbidden=0o022)
        damaged = old is not None and consent.parse_record(old, consent.today())[0] == "corrupt"
    except NotPrivateError:
        damaged = True
    if damaged:
        # It may be the only trace of what somebody decided: keep it, under another name.
        os.rename(path, f"{path}.damaged-{os.urandom(3).hex()}")
    private.replace(path, line)


def _attempt(step: Callable[[], T], what: str) -> T:
    try:
        return step()
    except OSError as error:
        raise ConsentError(f"{what} cannot be written ({name_of(error)})") from None
