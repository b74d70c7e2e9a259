"""Turn recording on or off, or delete the recorded events: the decision is written first.

The texts shown to users are elsewhere.
"""

from __future__ import annotations

import os

from telemetry_kit import settings
from telemetry_kit._runtime import SUPPORTED, UNSUPPORTED, runtime
from telemetry_kit.consent import cache as gates
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import obstacles, policy
from telemetry_kit.errors import ConsentError, JournalError, Refused
from telemetry_kit.files import private
from telemetry_kit.files.private import NotOwnerError, UnsafeFileError, name_of
from telemetry_kit.paths import Home, find
from telemetry_kit.privacy import declared_names, keys, projects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from telemetry_kit.consent.policy import Decision
    from telemetry_kit.consent.transaction import Asked

    T = TypeVar("T")
    Path = str | os.PathLike[str]


def home_of(project_root: Path | None = None) -> Home:
    """The places of the configured app for a directory.

    Raises:
        ConsentError: there is no such place, or this is Windows.
    """
    if not SUPPORTED:
        raise ConsentError(UNSUPPORTED)
    try:
        return find(settings.current().app, _start(project_root), runtime.world.environ)
    except Refused as refusal:
        raise ConsentError(refusal.reason) from None


def _start(project_root: Path | None) -> str | None:
    if project_root is None:
        return None
    path = os.fsdecode(project_root)
    # A root is looked for above a folder: one that is not there would stand for its parents'.
    if not os.path.isdir(path):
        raise ConsentError(f"there is no folder {path[:80]!r}")
    return os.path.realpath(path)


def enable_telemetry(
    project_root: Path | None = None,
    *,
    all_projects: bool = False,
    method: str = "api",
    any_context: bool = False,
) -> bool:
    """Write down that the user said yes. Call it only when the user did.

    Call it after `configure()`: context keys that are declared later need another yes.

    Args:
        project_root: a directory inside the project; the working directory by default.
        all_projects: for all projects of this app instead of this one.
        method: how the user said it: `prompt`, `flag` or `api`; kept in the history.
        any_context: the notice that was shown covers whatever context keys the tool declares.

    Returns:
        Whether events are recorded now: a veto may still hold, or the log cannot be written. On
        Windows always False.

    Raises:
        ConsentError: it could not be written, or no key could be made; nothing was decided.

    Example:
        >>> from telemetry_kit import configure, enable_telemetry, track_role_event
        >>> restore = configure(app="acme")
        >>> enable_telemetry()
        True
        >>> track_role_event("role.selected", role="dev")["role"]
        'dev'
    """
    if not SUPPORTED:
        return False
    home = home_of(project_root)
    return accept(home, all_projects=all_projects, method=method, any_context=any_context)


def disable_telemetry(
    project_root: Path | None = None, *, all_projects: bool = False, method: str = "api"
) -> None:
    """Write down that the user said no, also where a veto holds already.

    Programs that record in this project stop at their next event; those in other projects that
    the denial covers stop within 20 ms. What was recorded stays until `clear`.

    Args:
        project_root: a directory inside the project; the working directory by default.
        all_projects: for all projects of this app instead of this one.
        method: how the user said it: `prompt`, `flag` or `api`; kept in the history.

    Raises:
        ConsentError: it could not be written. Nothing was decided, and this process records
            nothing from then on.

    Example:
        >>> from telemetry_kit import configure, disable_telemetry, is_telemetry_enabled
        >>> restore = configure(app="acme")
        >>> disable_telemetry()
        >>> is_telemetry_enabled()
        False
    """
    if not SUPPORTED:
        return  # nothing is ever recorded there
    try:
        home = home_of(project_root)
    except BaseException:
        gates.hold()
        raise
    refuse(home, all_projects=all_projects, method=method)


def accept(
    home: Home,
    *,
    all_projects: bool = False,
    method: str = "api",
    any_context: bool = False,
    patience: float | None = None,
    before: list[str] | None = None,
) -> bool:
    """The same as `enable_telemetry()` for a home.

    Args:
        home: the project's places.
        all_projects: as there.
        method: as there.
        any_context: as there.
        patience: how many seconds to wait for another process that is deciding; five by
            default.
        before: what `denials()` said when the user was asked; a no that was said meanwhile stays.

    Returns:
        Whether events are recorded now: a veto may still hold, or the log cannot be written.

    Raises:
        ConsentError: it could not be written, or no key could be made; nothing was decided.
    """
    from telemetry_kit.consent import transaction  # deferred: json, and only a decision needs it

    def step() -> None:
        if before is not None and not set(denials(home)) <= set(before):
            raise ConsentError("another decision was made meanwhile")
        place = _place(home)
        path = keys.key_path(home, place)
        # The key first: a yes on file without one would be a yes under which nothing is kept.
        made = _attempt(lambda: _prepare(home, place, all_projects), "the key")
        folder = home.config if all_projects else f"{home.config}/projects/{place}"
        try:
            now = runtime.world.now()
            transaction.decide(home, folder, "yes", method, now, any_context=any_context)
        except BaseException:
            if made:
                private.remove(path)
            raise

    _alone(home, step, patience)
    return obstacles.is_recording(home.checkout)


def _prepare(home: Home, place: str, all_projects: bool) -> bool:
    """Make a project ready to be recorded in; whether its key was made now.

    Raises:
        ConsentError: git would take the events of this project.
        OSError: the key cannot be made.
    """
    from telemetry_kit.storage import version_control  # deferred: only a grant needs it

    try:
        version_control.ensure(home)
    except ConsentError:
        if all_projects:
            return False  # the others can be recorded in all the same
        raise
    projects.note(home, place)
    path = keys.key_path(home, place)
    return not os.path.lexists(path) and keys.create(path, runtime.world.now())


def look_after(home: Home) -> None:
    """Prepare a project that a grant for all projects meets in a folder that was there before.

    Raises:
        ConsentError: git would take the events.
        OSError: the key cannot be made.
    """
    from telemetry_kit.storage import version_control  # deferred: only commands need it

    place = projects.place_of(home)
    if place is None or not policy.decide(home, runtime.world.environ).allowed:
        return
    if projects.is_known(home, place):
        version_control.repair(home)
    elif os.path.lexists(home.folder):
        _prepare(home, place, all_projects=False)


def denials(home: Home) -> list[str]:
    """The user's records that say no, each with what it says."""
    found = policy.records(home)
    return [f"{rule.name} {rule.raw}" for rule in found if rule.verdict == policy.DENY]


def refuse(
    home: Home,
    *,
    all_projects: bool = False,
    method: str = "api",
    patience: float | None = None,
) -> None:
    """The same as `disable_telemetry()` for a home.

    Args:
        home: the project's places.
        all_projects: as there.
        method: as there.
        patience: how many seconds to wait for another process that is deciding; five by
            default.

    Raises:
        ConsentError: it could not be written. Nothing was decided, and this process records
            nothing from then on.
        JournalError: it is written, but programs in the project could not be told; they stop
            within 20 ms.
    """
    from telemetry_kit.consent import transaction  # deferred: as above
    from telemetry_kit.storage import rotation  # deferred: 1 ms that no recording program needs

    def step() -> None:
        folder = home.config if all_projects else f"{home.config}/projects/{_place(home)}"
        transaction.decide(home, folder, "no", method, runtime.world.now())

    try:
        _alone(home, step, patience)
    except ConsentError as error:
        gates.hold()
        raise ConsentError(f"{error}{_goes_on(home)}") from None
    except BaseException:
        gates.hold()
        raise
    rotation.seal(home, consent_decision.today())


def _goes_on(home: Home) -> str:
    """What to add to a denial that could not be written, where other programs go on recording."""
    if not policy.decide(home, runtime.world.environ).allowed:
        return ""
    variable = f"{settings.current().prefix}_TELEMETRY_DISABLED=1"
    return f". Other programs continue to record: set {variable} to stop them"


def clear(home: Home) -> list[str]:
    """Delete the stored events of a project, and the key that made their pseudonyms.

    The key goes first: what could not be deleted can no longer be linked to anybody.

    Returns:
        The files that could not be deleted, each with the reason.
    """
    from telemetry_kit.storage import rotation  # deferred: as above

    survivors: list[str] = []
    try:
        place = projects.place_of(home)
        if place is not None and _needs_key(home, keys.key_path(home, place)):
            keys.replace(keys.key_path(home, place), runtime.world.now())
            names = declared_names.path_of(home, place)
            if private.remove(names):
                private.sync_folder(os.path.dirname(names))
    except (ConsentError, OSError) as error:
        survivors.append(
            f"the key ({error if isinstance(error, ConsentError) else name_of(error)})"
        )
    survivors += rotation.clear(home)
    gates.forget()
    return survivors


def _needs_key(home: Home, path: str) -> bool:
    """Whether a fresh key is due: there is one to be replaced, or recording lacks one."""
    if os.path.lexists(path):
        return True
    recording = policy.decide(home, runtime.world.environ).allowed
    return recording and os.path.isdir(os.path.dirname(path))


def accept_widening(home: Home, decision: Decision) -> None:
    """Write down that the user said yes to what is wider than the yes in force.

    Args:
        home: the project's places.
        decision: what was in force when it was asked.

    Raises:
        ConsentError: it could not be written, or another decision was made meanwhile.
    """
    from telemetry_kit.consent import transaction  # deferred: json, and only a decision needs it

    folder, asked = _asked(home, decision)
    now = runtime.world.now()
    _alone(home, lambda: transaction.decide(home, folder, "yes", "prompt", now, asked=asked))


def decline_widening(home: Home, decision: Decision) -> None:
    """Keep a yes as it was given, and remember that the wider notice was declined.

    Args:
        home: the project's places.
        decision: what was in force when it was asked.

    Raises:
        ConsentError: it could not be written, or another decision was made meanwhile.
    """
    from telemetry_kit.consent import transaction  # deferred: as above

    folder, asked = _asked(home, decision)
    _alone(home, lambda: transaction.decline(folder, runtime.world.now(), asked))


def _asked(home: Home, decision: Decision) -> tuple[str, Asked]:
    from telemetry_kit.consent import transaction  # deferred: as above

    assert decision.accepted is not None
    asked = transaction.Asked(home.app, decision.rule.raw or "", decision.accepted)
    # Before the lock, too: after a reset there is no folder to put one in.
    _attempt(lambda: asked.check(decision.rule.name), "the consent record")
    return os.path.dirname(decision.rule.name), asked


def reset(home: Home, *, all_projects: bool = False) -> list[str]:
    """Erase everything of this project: events, key, decision and its history.

    Args:
        home: the project's places.
        all_projects: of every project of the app.

    Returns:
        What could not be deleted, each with the reason.

    Raises:
        ConsentError: another process is deciding and does not finish; nothing was deleted.
    """
    # No decision, no lock, and no folder made to put it in. The record of a later one stays.
    survivors = (
        _alone(home, lambda: _reset(home, all_projects, decided=True))
        if os.path.isdir(home.config)
        else _reset(home, all_projects, decided=False)
    )
    for folder in (home.config, home.state):
        _prune(folder)
    gates.forget()
    return survivors


def all_homes(home: Home) -> list[Home]:
    """The places of every project of an app: those in the index, and this one.

    Args:
        home: the places of this project.
    """
    others = [root for root in projects.roots(home.state).values() if root != home.root]
    return [home, *(Home(home.app, root, home.config, home.state) for root in sorted(others))]


def _reset(home: Home, all_projects: bool, decided: bool) -> list[str]:
    from telemetry_kit.storage import version_control  # deferred: only a reset needs it

    survivors: list[str] = []
    homes = all_homes(home) if all_projects else [home]
    try:
        places = [projects.place_of(home)]
    except ConsentError:
        places = []
        if all_projects:
            # It is of no use to anybody, so it goes before somebody looks at it again.
            _erase([home.place_key], survivors)
    # The decision first: what a running program records meanwhile is deleted with the rest.
    config = _ours(home.config, places, all_projects) if decided else []
    state = _ours(home.state, places, all_projects)
    _erase(config, survivors)
    gates.forget()
    for one in homes:
        survivors += clear(one)
        try:
            version_control.take_back(one)
        except JournalError as error:
            survivors.append(str(error))
    _erase(state, survivors)
    if all_projects:
        version_control.take_back_for_keys(home)
    return survivors


def retention_days(home: Home) -> int:
    """How long lines are kept: as configured, but never longer than the user said yes to.

    Args:
        home: the project's places.
    """
    return policy.decide(home, runtime.world.environ).keep_days


def _ours(folder: str, places: list[str | None], all_projects: bool) -> list[str]:
    if not all_projects:
        return [f"{folder}/projects/{place}" for place in places if place is not None]
    # The folder is ours alone, but for the settings that the user wrote and the lock in use.
    kept = {"telemetry.toml", deciding_lock()}
    return [f"{folder}/{name}" for name in _names_in(folder) if name not in kept]


def deciding_lock() -> str:
    """The name of the lock that is held while something is decided."""
    # deferred: json, and only a decision needs it
    from telemetry_kit.consent.transaction import LOCK

    return LOCK


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _erase(paths: list[str], survivors: list[str]) -> None:
    import shutil  # deferred: only for erasing

    for path in paths:
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            survivors.append(f"{path} ({name_of(error)})")
    for folder in sorted({os.path.dirname(path) for path in paths}):
        private.sync_folder(folder)


def _prune(folder: str) -> None:
    """Delete our folders in which nothing is left, those of all apps with the last one."""
    for path in (f"{folder}/projects", folder):
        if not projects.remove_if_empty(path):
            return
    projects.remove_own_folder(os.path.dirname(folder))


def _alone(home: Home, step: Callable[[], T], patience: float | None = None) -> T:
    """Do what no other process may do at the same time."""
    from telemetry_kit.consent import transaction  # deferred: as above

    def locked() -> T:
        projects.make_own_folders(home)
        with transaction.alone(home.config, patience):
            return step()

    done = _attempt(locked, "the consent record")
    gates.forget()
    return done


def _place(home: Home) -> str:
    place = projects.place_of(home)
    if place is None:
        if policy.unplaced(home):
            raise ConsentError(policy.key_is_gone(home))
        from telemetry_kit.storage import version_control  # deferred: once for each user

        version_control.ensure_for_keys(home.state)
        private.create(home.place_key, os.urandom(32))
        place = projects.place_of(home)
    assert place is not None
    return place


def _attempt(step: Callable[[], T], what: str) -> T:
    try:
        return step()
    except NotOwnerError as error:
        why = "belongs to another user, and nothing is made there: is HOME yours?"
        raise ConsentError(f"{error.filename} {why}") from None
    except OSError as error:
        where = f" in {os.path.dirname(str(error.filename))}" if error.filename else ""
        raise ConsentError(f"{what} cannot be written{where} ({name_of(error)})") from None
    except UnsafeFileError as error:
        raise ConsentError(str(error)) from None
