"""The first check of a decorated call: can the user have granted consent at all?

A program whose user was never asked loads only this module, `paths`, `settings` and the
decorator. So nothing else is imported here, and annotations are quoted instead of postponed,
which would load one more file. `load()` imports any other module.
"""

import os
import sys
from _thread import RLock, get_ident
from time import monotonic, time

from telemetry_kit import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# Nothing is recorded on Windows: it has neither the locks nor the file modes that this needs.
SUPPORTED: bool = sys.platform != "win32"
UNSUPPORTED = "Windows is not supported yet: nothing is recorded there"
FRESH_SECONDS = 0.02
# Above this many projects the closer look is cheaper.
_MAX_RECORDS = 16
# As many names as `settings` keeps in all.
_MAX_DECLARED = 16_384
# Loading takes some 10 ms; who waits longer is not going to get it.
_LOAD_SECONDS = 1.0


class World:
    """What lies outside: the environment and the clocks. Tests pass their own.

    Args:
        environ: the environment variables.
        clock: monotonic seconds.
        now: seconds since the epoch.
        random: that many random bytes.
    """

    __slots__ = ("clock", "environ", "now", "random")

    def __init__(
        self,
        environ: "Mapping[str, str]" = os.environ,
        clock: "Callable[[], float]" = monotonic,
        now: "Callable[[], float]" = time,
        random: "Callable[[int], bytes]" = os.urandom,
    ) -> None:
        self.environ = environ
        self.clock = clock
        self.now = now
        self.random = random


class Runtime:
    """Shut while `clock() < off_until`: a decorated call then goes straight to the function.

    Only what holds for every project shuts it, so a change of directory is never missed.
    """

    __slots__ = (
        "_on_until",
        "app",
        "captured",
        "declared",
        "forks",
        "off_until",
        "pipeline",
        "spans",
        "world",
    )

    def __init__(self) -> None:
        self.off_until = 0.0
        self._on_until = 0.0
        self.world = World()
        # The name that the program gives itself; without one nothing is recorded.
        self.app = ""
        # Events go into memory, whatever consent says: how many captures are open.
        self.captured = 0
        # (field, name) pairs given at decoration time, until `settings` takes them over.
        self.declared: set[tuple[str, str]] = set()
        # The modules that record, once they are loaded: later events do not look for them.
        self.pipeline: Any = None
        self.spans: Any = None
        # How often the process was forked, its parents included.
        self.forks = 0

    def is_off(self) -> bool:
        """Whether recording is off whatever the project; False when that takes a closer look.

        Only the user can grant, and a grant leaves a record: where there is none, or each one
        says no, there is no grant, and no other veto needs to be looked for.
        """
        if self.captured:
            return False
        now = self.world.clock()
        if now < self.off_until:
            return True
        if now < self._on_until:
            # Not shut 20 ms ago: asking for a closer look is never wrong.
            return False
        can_record = SUPPORTED and self.app
        folders = paths.user_folders(self.app, self.world.environ) if can_record else None
        if folders is not None and not self._is_vetoed() and _somebody_said_yes(folders[0]):
            self._on_until = now + FRESH_SECONDS
            return False
        self.off_until = now + FRESH_SECONDS
        return True

    def _is_vetoed(self) -> bool:
        """Whether the environment plainly denies; what is less plain is left to `consent`."""
        get = self.world.environ.get
        prefix = self.app.upper().replace("-", "_")
        names = ("DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", f"{prefix}_TELEMETRY_DISABLED", "CI")
        return any(get(name) in ("1", "true", "yes", "on") for name in names)

    def declare(self, field: str, name: str) -> bool:
        """Keep a name given at decoration time, which may be stored in plain text.

        Returns:
            Whether it is plainly one that may; any other is for `settings.declare()` to judge.
        """
        plain = type(name) is str and name.isascii() and name.isprintable()
        if not plain or not 0 < len(name) <= 100 or not name[0] > " " < name[-1]:
            return False
        if name[:2] == "h:":
            return False
        if len(self.declared) < _MAX_DECLARED:
            self.declared.add((field, name))
        return True


def _somebody_said_yes(config: str) -> bool:
    """Whether any record may be a grant: for all projects, or for one of the first projects."""
    if _may_grant(f"{config}/telemetry.enabled"):
        return True
    try:
        places = os.listdir(f"{config}/projects")
    except OSError:
        return os.path.lexists(f"{config}/projects")
    if len(places) > _MAX_RECORDS:
        return True
    return any(_may_grant(f"{config}/projects/{place}/telemetry.enabled") for place in places)


def _may_grant(record: str) -> bool:
    """False where there is no record, or one that begins as a denial does."""
    try:
        fd = os.open(record, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    try:
        try:
            return os.read(fd, 6) != b"v1 no "
        finally:
            os.close(fd)
    except OSError:
        return True


runtime = Runtime()


# -- the way to the other modules ----------------------------------------------------------------

_turn = RLock()
_loading: list[str] = []
_forking: list[int] = []
_hooked = False
_stranded = False


def load(name: str) -> "Any":
    """A module that recording needs and that may not be loaded yet: whole, or not at all.

    `import` hands a half-loaded module to a signal handler or finalizer that interrupts it, and
    leaves a child that another thread forks meanwhile waiting for ever. Here the former gets None,
    and a fork waits until the loading is over.

    Args:
        name: its full name.

    Returns:
        The module. None when it cannot be had now: this thread is loading already, another one
        takes too long, no descriptor is left, or the interpreter is shutting down.
    """
    whole = _whole(name)
    if whole is not None:
        return whole
    turn = _turn
    if _stranded or not turn.acquire(timeout=_LOAD_SECONDS):
        return None
    try:
        if _loading:
            return None
        _look_after_forks()
        _loading.append(name)
        try:
            __import__(name)
        finally:
            _loading.clear()
        return _whole(name)
    except Exception:
        return None
    finally:
        turn.release()


def _whole(name: str) -> "Any":
    module = sys.modules.get(name)
    half = getattr(getattr(module, "__spec__", None), "_initializing", False)
    return None if half else module


def _look_after_forks() -> None:
    global _hooked
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
        )


def _before_fork() -> None:
    if _turn.acquire(timeout=_LOAD_SECONDS):
        _forking.append(get_ident())


def _after_fork() -> None:
    thread = get_ident()
    if thread in _forking:
        _forking.remove(thread)
        _turn.release()


def _after_fork_in_child() -> None:
    global _stranded, _turn
    if get_ident() in _forking:
        _after_fork()
    else:
        # Another thread was loading, and nobody goes on with that here: what is not there by now
        # would be waited for without end.
        _stranded = True
        _turn = RLock()
    _forking.clear()
