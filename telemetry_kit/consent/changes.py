"""Turn recording on or off, or delete the recorded events: the decision is written first.

The texts shown to users are elsewhere.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from telemetry_kit import settings
from telemetry_kit._runtime import SUPPORTED, UNSUPPORTED, runtime
from telemetry_kit.consent import cache, obstacles, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent.app_choice import names_in
from telemetry_kit.errors import ConsentError, JournalError, Refused
from telemetry_kit.files import atomic, private
from telemetry_kit.files.private import NotOwnerError, UnsafeFileError, name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import keys, projects
from telemetry_kit.privacy.projects import ProjectDirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry_kit.consent.policy import Decision

    Path = str | os.PathLike[str]


def paths_of(project_root: Path | None = None) -> ProjectPaths:
    """The paths of the configured app for a directory.

    Args:
        project_root: a directory inside the project; the working directory by default.

    Raises:
        ConsentError: there is no such directory, or this is Windows.
    """
    if not SUPPORTED:
        raise ConsentError(UNSUPPORTED)
    start = None if project_root is None else os.fsdecode(project_root)
    # Without this check, a missing directory would be taken for its parent's project.
    if start is not None and not os.path.isdir(start):
        raise ConsentError(f"there is no folder {start[:80]!r}")
    try:
        start = start and os.path.realpath(start)
        return settings.current().paths(start)
    except Refused as refusal:
        raise ConsentError(refusal.reason) from None


def enable_telemetry(
    project_root: Path | None = None,
    *,
    all_projects: bool = False,
    method: str = "api",
    any_context: bool = False,
) -> bool:
    """Save that the user granted consent. Call it only if the user did.

    Call it after `configure()`: context keys that are declared later need another grant.

    Example:
        >>> from telemetry_kit import configure, enable_telemetry
        >>> with configure(app="acme"):
        ...     recording = enable_telemetry()

    Args:
        project_root: a directory inside the project; the working directory by default.
        all_projects: for all projects of this app instead of this one.
        method: how the user answered: `prompt`, `flag` or `api`; stored in the history.
        any_context: the grant covers all context keys that the tool declares, now or later.

    Returns:
        Whether events are recorded now. A veto or an unwritable log may prevent that. Always
        False on Windows.

    Raises:
        ConsentError: the grant could not be saved, or no key could be made; nothing has changed.

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
    paths = paths_of(project_root)
    return grant(paths, all_projects=all_projects, method=method, any_context=any_context)


def disable_telemetry(
    project_root: Path | None = None, *, all_projects: bool = False, method: str = "api"
) -> None:
    """Save that the user denied consent, even if a veto turns recording off already.

    Programs that record in this project stop at their next event; those in other projects that
    the denial covers stop within 20 ms. Recorded events stay until `clear` deletes them.

    Example:
        >>> from telemetry_kit import configure, disable_telemetry
        >>> with configure(app="acme"):
        ...     disable_telemetry()

    Args:
        project_root: a directory inside the project; the working directory by default.
        all_projects: for all projects of this app instead of this one.
        method: how the user answered: `prompt`, `flag` or `api`; stored in the history.

    Raises:
        ConsentError: the denial could not be saved. This process stops recording all the same.

    Example:
        >>> from telemetry_kit import configure, disable_telemetry, is_telemetry_enabled
        >>> restore = configure(app="acme")
        >>> disable_telemetry()
        >>> is_telemetry_enabled()
        False
    """
    if not SUPPORTED:
        return
    try:
        paths = paths_of(project_root)
    except BaseException:
        cache.deny_in_process()
        raise
    deny(paths, all_projects=all_projects, method=method)


def grant(
    paths: ProjectPaths,
    *,
    all_projects: bool = False,
    method: str = "api",
    any_context: bool = False,
    patience: float | None = None,
    before: list[str] | None = None,
) -> bool:
    """Save a grant, as `enable_telemetry()` does, with two more arguments.

    Args:
        patience: how many seconds to wait for a process that is deciding; five by default.
        before: the result of `denials()` before the user was asked. A later denial wins.

    Returns:
        Whether events are recorded now.

    Raises:
        ConsentError: the grant could not be saved, or no key could be made; nothing has changed.
    """
    from telemetry_kit.consent import transaction  # deferred: json, and only a decision needs it

    with _deciding(paths, patience):
        if before is not None and not set(denials(paths)) <= set(before):
            raise ConsentError("another decision was made meanwhile")
        dirs = _made_dirs(paths)
        # The key comes first: under a grant without a key nothing would be recorded.
        with _consent_errors("the key"):
            is_new = _prepare(paths, dirs, all_projects)
        folder = paths.config if all_projects else dirs.config
        try:
            now = runtime.now()
            transaction.decide(paths, folder, "yes", method, now, any_context=any_context)
        except BaseException:
            if is_new:
                private.remove(dirs.key)
            raise
    return obstacles.is_recording(paths.checkout)


def _prepare(paths: ProjectPaths, dirs: ProjectDirs, all_projects: bool) -> bool:
    """Prepare a project for recording.

    Returns:
        Whether the key is new.

    Raises:
        ConsentError: git would commit the events of this project.
        OSError: the key cannot be made.
    """
    from telemetry_kit.storage import version_control  # deferred: only a grant needs it

    try:
        version_control.ensure(paths)
    except ConsentError:
        if all_projects:
            return False  # the grant covers the other projects
        raise
    projects.register(paths, dirs)
    return not os.path.lexists(dirs.key) and keys.create(dirs.key, runtime.now())


def prepare_project(paths: ProjectPaths) -> None:
    """Prepare a project that only a grant for all projects covers, if its log folder exists.

    Raises:
        ConsentError: git would commit the events.
        OSError: the key cannot be made.
    """
    from telemetry_kit.storage import version_control  # deferred: only commands need it

    dirs = policy.decide(paths, runtime.environ).dirs
    if dirs is not None and projects.is_registered(dirs):
        version_control.repair(paths)
    elif dirs is not None and os.path.lexists(paths.folder):
        _prepare(paths, dirs, all_projects=False)


def denials(paths: ProjectPaths) -> list[str]:
    """The user's records that deny, each with its line."""
    found = policy.records(paths)
    return [f"{rule.name} {rule.raw}" for rule in found if rule.verdict == policy.DENY]


def deny(
    paths: ProjectPaths,
    *,
    all_projects: bool = False,
    method: str = "api",
    patience: float | None = None,
) -> None:
    """Save a denial, as `disable_telemetry()` does, with one more argument.

    Args:
        patience: how many seconds to wait for a process that is deciding; five by default.

    Raises:
        ConsentError: the denial could not be saved. This process stops recording all the same.
        JournalError: the denial is saved, but the log could not be sealed. Other programs in the
            project stop within 20 ms.
    """
    from telemetry_kit.consent import transaction  # deferred: as above
    from telemetry_kit.storage import rotation  # deferred: 1 ms that no recording program needs

    try:
        with _deciding(paths, patience):
            folder = paths.config if all_projects else _made_dirs(paths).config
            transaction.decide(paths, folder, "no", method, runtime.now())
    except BaseException as error:
        cache.deny_in_process()
        if not isinstance(error, ConsentError) or not _is_allowed(paths):
            raise
        variable = f"{settings.current().prefix}_TELEMETRY_DISABLED=1"
        advice = f"Other programs continue to record: set {variable} to stop them"
        raise ConsentError(f"{error}. {advice}") from None
    rotation.seal(paths, consent_decision.today())


def _is_allowed(paths: ProjectPaths) -> bool:
    return policy.decide(paths, runtime.environ).allowed


def clear(paths: ProjectPaths) -> list[str]:
    """Delete the stored events of a project, and the key that made their pseudonyms.

    The key is deleted first, so that no process can link an event that could not be deleted.

    Returns:
        The files that could not be deleted, each with the reason.
    """
    from telemetry_kit.storage import rotation  # deferred: as above

    failures: list[str] = []
    try:
        dirs = ProjectDirs.of(paths)
        # A fresh key also if recording is on and has none.
        if dirs is not None and (
            os.path.lexists(dirs.key) or (os.path.isdir(dirs.state) and _is_allowed(paths))
        ):
            keys.replace(dirs.key, runtime.now())
            running = [f"{dirs.state}/{name}" for name in projects.pending_names(dirs.state)]
            removed = [private.remove(path) for path in (dirs.names, dirs.last_role, *running)]
            if any(removed):
                private.sync_folder(dirs.state)
    except ConsentError as error:
        failures.append(f"the key ({error})")
    except OSError as error:
        failures.append(f"the key ({name_of(error)})")
    failures += rotation.clear(paths)
    cache.invalidate()
    return failures


def answer_extension(paths: ProjectPaths, decision: Decision, *, is_granted: bool) -> None:
    """Save that the user granted or denied an extended scope. A denial does not end the grant.

    Args:
        paths: the project's paths.
        decision: the decision before the user was asked.
        is_granted: the answer.

    Raises:
        ConsentError: it could not be saved, or another decision was made meanwhile.
    """
    from telemetry_kit.consent import transaction  # deferred: as above

    assert decision.grant is not None
    request = transaction.ScopeRequest(paths.app, decision.rule.raw or "", decision.grant)
    # The lock needs the record's folder, which a reset deletes.
    with _consent_errors("the consent record"):
        request.check(decision.rule.name)
    folder = os.path.dirname(decision.rule.name)
    with _deciding(paths):
        if is_granted:
            transaction.decide(paths, folder, "yes", "prompt", runtime.now(), request=request)
        else:
            transaction.decline(folder, runtime.now(), request)


def reset(paths: ProjectPaths, *, all_projects: bool = False) -> list[str]:
    """Delete everything of this project: events, key, decision and its history.

    Args:
        paths: the project's paths.
        all_projects: of every project of the app.

    Returns:
        What could not be deleted, each with the reason.

    Raises:
        ConsentError: another process is deciding and does not finish; nothing was deleted.
    """
    # Without a decision there is no folder for the lock, and none is made for it.
    if os.path.isdir(paths.config):
        with _deciding(paths):
            failures = _erase_all(paths, all_projects, is_decided=True)
    else:
        failures = _erase_all(paths, all_projects, is_decided=False)
    for folder in (paths.config, paths.state):
        # The folder that all apps share is deleted with the last app.
        if projects.remove_if_empty(f"{folder}/projects") and projects.remove_if_empty(folder):
            projects.remove_own_folder(os.path.dirname(folder))
    cache.invalidate()
    return failures


def all_project_paths(paths: ProjectPaths) -> list[ProjectPaths]:
    """The paths of every project of an app: this one, and those in the index.

    Args:
        paths: the paths of this project.
    """
    others = [root for root in projects.roots(paths.state) if root != paths.root]
    return [
        paths,
        *map(paths.of_root, others),
    ]


def _erase_all(paths: ProjectPaths, all_projects: bool, is_decided: bool) -> list[str]:
    from telemetry_kit.consent.transaction import LOCK  # deferred: as above
    from telemetry_kit.storage import version_control  # deferred: as above

    failures: list[str] = []
    cleared = all_project_paths(paths) if all_projects else [paths]
    dirs = None
    try:
        dirs = ProjectDirs.of(paths)
    except ConsentError:
        if all_projects:
            failures += _erase([paths.directory_key])
    if all_projects:
        # The settings that the user wrote stay, and so does the lock in use.
        kept = {"telemetry.toml", LOCK}
        config, state = (
            [f"{folder}/{name}" for name in names_in(folder) if name not in kept]
            for folder in (paths.config, paths.state)
        )
    else:
        config, state = ([dirs.config], [dirs.state]) if dirs is not None else ([], [])
    # The decision first: the events that a running program records meanwhile are deleted below.
    failures += _erase(config if is_decided else [])
    cache.invalidate()
    for one in cleared:
        failures += clear(one)
        try:
            version_control.remove_rules(one)
        except JournalError as error:
            failures.append(str(error))
    failures += _erase(state)
    if all_projects:
        version_control.remove_rules_for_keys(paths)
    return failures


def _erase(erased: list[str]) -> list[str]:
    """Delete files and folders; returns those that could not be deleted, each with the reason."""
    import shutil  # deferred: only a reset needs it

    failures = []
    for path in erased:
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            failures.append(f"{path} ({name_of(error)})")
    for folder in sorted({os.path.dirname(path) for path in erased}):
        private.sync_folder(folder)
    return failures


@contextmanager
def _deciding(paths: ProjectPaths, patience: float | None = None) -> Iterator[None]:
    """Make the user's folders, hold the consent lock, and decide anew afterwards."""
    from telemetry_kit.consent import transaction  # deferred: as above

    with _consent_errors("the consent record"):
        projects.make_own_folders(paths)
        with transaction.consent_lock(paths.config, patience):
            yield
    cache.invalidate()


def _made_dirs(paths: ProjectPaths) -> ProjectDirs:
    """The directories of a project; makes the key of their names if there is none."""
    dirs = ProjectDirs.of(paths)
    if dirs is None:
        if problem := policy.lost_key_problem(paths):
            raise ConsentError(problem)
        from telemetry_kit.storage import version_control  # deferred: once for each user

        version_control.ensure_for_keys(paths.state)
        atomic.create(paths.directory_key, os.urandom(32))
        dirs = ProjectDirs.of(paths)
    assert dirs is not None
    return dirs


@contextmanager
def _consent_errors(what: str) -> Iterator[None]:
    """Raise errors of the file system as `ConsentError`, with what could not be written."""
    try:
        yield
    except NotOwnerError as error:
        why = "belongs to another user, and nothing is written there: check HOME"
        raise ConsentError(f"{error.filename} {why}") from None
    except OSError as error:
        where = f" in {os.path.dirname(str(error.filename))}" if error.filename else ""
        raise ConsentError(f"{what} cannot be written{where} ({name_of(error)})") from None
    except UnsafeFileError as error:
        raise ConsentError(str(error)) from None
