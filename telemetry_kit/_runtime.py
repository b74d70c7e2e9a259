"""The first check of a decorated call: can the user have granted consent at all?

Until the user grants consent, a program loads only this module, `paths`, `settings` and the
decorator. So this module imports nothing else, and quotes its annotations: postponing them would
load one more file. `load()` imports any other module.
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

# Windows lacks the locks and the file modes that recording needs.
SUPPORTED: bool = sys.platform != "win32"
UNSUPPORTED = "Windows is not supported yet: nothing is recorded there"
FRESH_SECONDS = 0.02
# With more projects than this, `consent` decides faster.
MAX_RECORDS = 16
# `settings` stores as many names.
MAX_DECLARED = 16_384
# Loading takes about 10 ms. A thread that waits longer does not record.
LOAD_SECONDS = 1.0
# Our own command line, and the app that it takes where the user has decided about none.
PROGRAM = "telemetry-kit"
DEFAULT_APP = "flowspec"


class Runtime:
    """The app name, clocks and environment of this process, and the cached "recording is off".

    While `clock() < off_until`, a decorated call goes straight to the function. Only a rule that
    covers every project sets `off_until`, so a change of directory needs no new check.

    """

    __slots__ = (
        *("_on_until", "app", "captured", "clock", "declared", "environ", "forks", "is_denied"),
        *("now", "off_until", "pipeline", "prog", "random", "spans"),
    )

    def __init__(self) -> None:
        # The name that the program gives itself; without one nothing is recorded.
        self.app = ""
        # The words that users type before a command of ours; empty for our own command line.
        self.prog = ""
        # How many captures are open: their events go into memory, whatever consent is.
        self.captured = 0
        # (field, name) pairs given at decoration time, until `settings` adds them.
        self.declared: set[tuple[str, str]] = set()
        # The user denied consent in this process, and the denial could not be saved.
        self.is_denied = False
        self.environ: Mapping[str, str] = os.environ
        # Monotonic seconds, and seconds since the epoch.
        self.clock: Callable[[], float] = monotonic
        self.now: Callable[[], float] = time
        self.random: Callable[[int], bytes] = os.urandom
        # The modules that record, once they are loaded: later events do not look for them.
        self.pipeline: Any = None
        self.spans: Any = None
        # How often the process was forked, its parents included.
        self.forks = 0
        self.off_until = 0.0
        self._on_until = 0.0

    def __reduce__(self) -> str:
        """Pickle by name: what a wrapper refers to is the runtime of the process that loads it."""
        return "runtime"

    @property
    def program(self) -> str:
        """The name of the command line in front of an error message."""
        return self.prog or PROGRAM

    @property
    def command_line(self) -> str:
        """The words that users type before a command of ours, for every notice and message."""
        if self.prog or self.app in ("", DEFAULT_APP):
            return self.prog or PROGRAM
        return f"{PROGRAM} --app {self.app}"

    def is_off(self) -> bool:
        """Whether recording is off in every project; False if only `consent` can decide.

        Only the user can grant consent, and a grant is a file. If there is no such file, or each
        one denies, recording is off and no other rule is read. The answer is kept for 20 ms.
        """
        if self.captured:
            return False
        now = self.clock()
        if now < self.off_until:
            return True
        if now < self._on_until:
            return False
        can_record = SUPPORTED and self.app and not self.is_vetoed()
        folders = paths.user_folders(self.app, self.environ) if can_record else None
        if folders is not None and has_grant(folders[0]):
            self._on_until = now + FRESH_SECONDS
            return False
        self.off_until = now + FRESH_SECONDS
        return True

    def is_vetoed(self) -> bool:
        """Whether a variable has a value that plainly denies; `consent` judges other values."""
        get = self.environ.get
        prefix = self.app.upper().replace("-", "_")
        names = ("DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", f"{prefix}_TELEMETRY_DISABLED", "CI")
        return any(get(name) in ("1", "true", "yes", "on") for name in names)

    def declare(self, field: str, name: str) -> bool:
        """Collect a name given at decoration time, which may be stored in plain text.

        Returns:
            Whether the name is plainly allowed; `settings.allow_name()` must check any other name.
        """
        plain = type(name) is str and name.isascii() and name.isprintable()
        if not plain or not 0 < len(name) <= 100 or not name[0] > " " < name[-1]:
            return False
        if name[:2] == "h:":
            return False
        if len(self.declared) < MAX_DECLARED:
            self.declared.add((field, name))
        return True


def has_grant(config: str) -> bool:
    """Whether any consent record in the app's config folder may grant."""
    try:
        names = os.listdir(f"{config}/projects")
    except FileNotFoundError:
        names = []
    except OSError:
        return True
    if len(names) > MAX_RECORDS:
        return True
    folders = [config, *(f"{config}/projects/{name}" for name in names)]
    return any(may_grant(f"{folder}/telemetry.enabled") for folder in folders)


def may_grant(record: str) -> bool:
    """Whether a consent record exists and does not begin with a denial."""
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


class Loader:
    """Import modules so that forks and signal handlers see each one complete, or not at all.

    `import` gives a half-loaded module to a signal handler or finalizer that interrupts it. If
    another thread forks meanwhile, the child waits for that import for ever. Here the handler gets
    None, and a fork waits until the import is complete.
    """

    __slots__ = ("_forking_thread", "_handles_forks", "_is_loading", "_is_stranded", "_lock")

    def __init__(self) -> None:
        self._lock = RLock()
        self._is_loading = False
        self._handles_forks = False
        # The thread that holds the lock around a fork.
        self._forking_thread: int | None = None
        # This process was forked during an import of another thread.
        self._is_stranded = False

    def __reduce__(self) -> str:
        """Pickle by name, as `Runtime` does."""
        return "loader"

    def load(self, name: str) -> "Any":
        """Import a module by its full name.

        Returns:
            The module. None if this thread is importing already, another thread takes longer than
            a second, no file descriptor is left, or the interpreter is shutting down.
        """
        module = loaded(name)
        if module is not None:
            return module
        lock = self._lock
        if self._is_stranded or not lock.acquire(timeout=LOAD_SECONDS):
            return None
        try:
            if self._is_loading:
                return None
            if not self._handles_forks and hasattr(os, "register_at_fork"):
                self._handles_forks = True
                os.register_at_fork(
                    before=self.before_fork,
                    after_in_parent=self.after_fork,
                    after_in_child=self.after_fork_in_child,
                )
            self._is_loading = True
            try:
                __import__(name)
            finally:
                self._is_loading = False
            return loaded(name)
        except Exception:
            return None
        finally:
            lock.release()

    def before_fork(self) -> None:
        """Wait until no other thread imports."""
        if self._lock.acquire(timeout=LOAD_SECONDS):
            self._forking_thread = get_ident()

    def after_fork(self) -> None:
        """Let other threads import again."""
        if self._forking_thread == get_ident():
            self._forking_thread = None
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Do the same in the child, or give up on imports if another thread was importing.

        That thread does not exist in the child, so a module that is not complete now never will be.
        """
        if self._forking_thread == get_ident():
            self.after_fork()
        else:
            self._is_stranded = True
            self._lock = RLock()
            self._forking_thread = None


def loaded(name: str) -> "Any":
    """A module if it is loaded completely, else None."""
    module = sys.modules.get(name)
    is_half = getattr(getattr(module, "__spec__", None), "_initializing", False)
    return None if is_half else module


loader = Loader()
load = loader.load
