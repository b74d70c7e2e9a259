"""May we record? Owners, vetoes, the user's decision, and the trace of the rules.

Any denial wins and only the user can grant. A source that cannot be read or parsed denies.
Nothing here writes an event, and asking creates no file.
"""

from __future__ import annotations

import os

from telemetry_kit.consent import decision
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import (
    ProjectPaths,
    enclosing_repositories,
    enclosing_roots,
    repository_files,
    user_home,
)
from telemetry_kit.privacy import projects
from telemetry_kit.settings import current, read_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from telemetry_kit.consent.decision import Grant


DENY = "deny"
GRANT = "grant"
# The place of a record that is about every project.
ALL = "all"
SILENT = "silent"
IGNORED = "ignored"

FALSE = frozenset({"", "0", "false", "no", "off"})
CI_VARIABLES = tuple(
    """
    CONTINUOUS_INTEGRATION CI_NAME CI_APP_ID CI_BUILD_ID CI_BUILD_NUMBER BUILD_NUMBER
    GITHUB_ACTIONS GITLAB_CI TF_BUILD SYSTEM_TEAMFOUNDATIONCOLLECTIONURI JENKINS_URL
    HUDSON_URL TRAVIS CIRCLECI BUILDKITE DRONE APPVEYOR TEAMCITY_VERSION
    BITBUCKET_BUILD_NUMBER BITBUCKET_COMMIT CODEBUILD_BUILD_ID CODEBUILD_BUILD_ARN CIRRUS_CI
    SEMAPHORE GITEA_ACTIONS NETLIFY VERCEL RENDER CF_PAGES PROW_JOB_ID BUDDY AC_APPCIRCLE
    bamboo_planKey
    """.split()  # noqa: SIM905 - one name a line would fill a page
)
# Developers' machines carry these too, so alone they count only where nobody sits at a terminal.
WEAK_CI_VARIABLES = ("BUILD_ID", "run_ID")
PYTEST_VARIABLES = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST")
RECORD = "telemetry.enabled"
HISTORY = "telemetry.history.jsonl"
# Some seven decisions: what the recorder compares a grant with.
_HISTORY_BYTES = 4_096
MAX_RECORD_BYTES = 65_536

_FIXED = frozenset(
    {
        "DO_NOT_TRACK",
        "TELEMETRY_KIT_DISABLED",
        "CI",
        *CI_VARIABLES,
        *WEAK_CI_VARIABLES,
        *PYTEST_VARIABLES,
    }
)


class Rule:
    """One rule of the decision and what it said.

    Args:
        owner: `system`, `environment`, `repository` or `user`.
        name: the variable, file or key that was asked.
        raw: its raw value as text, None when it is not there.
        verdict: `deny`, `grant`, `silent` or `ignored`.
        says: one short sentence for people.
        everywhere: whether it holds whatever the project.
    """

    __slots__ = ("everywhere", "name", "owner", "raw", "says", "verdict")

    def __init__(
        self,
        owner: str,
        name: str,
        raw: str | None,
        verdict: str,
        says: str,
        everywhere: bool = False,
    ) -> None:
        self.owner = owner
        self.name = name
        self.raw = raw
        self.verdict = verdict
        self.says = says
        self.everywhere = everywhere


class Decision:
    """The answer, and the rule that decided it.

    Args:
        allowed: whether events may be recorded.
        rule: the deciding rule.
        grant: what the user said yes to; None without a grant.
    """

    __slots__ = ("grant", "allowed", "rule")

    def __init__(self, allowed: bool, rule: Rule, grant: Grant | None = None) -> None:
        self.allowed = allowed
        self.rule = rule
        self.grant = grant

    @property
    def vetoed(self) -> bool:
        """Off by somebody else than the user."""
        return not self.allowed and self.rule.verdict == DENY and self.rule.owner != "user"

    @property
    def keep_days(self) -> int:
        """How long lines are kept: as configured, but never longer than the user said yes to."""
        configured = current().retention_days
        grant = self.grant
        return configured if grant is None else min(configured, grant.keep_days)


def watched(app_prefix: str) -> frozenset[str]:
    """The environment variables that can deny for an app with this prefix."""
    return _FIXED | {f"{app_prefix}_TELEMETRY_DISABLED"}


def decide(home: ProjectPaths, environ: Mapping[str, str], *, every_file: bool = False) -> Decision:
    """The decision for one home: the first denial, else the user's grant, else off.

    Args:
        home: the places to look at.
        environ: the variables to look at.
        every_file: read the repository's files also where the user has granted nothing, to say
            that they deny. A recording program opens no file of a repository before a grant.
    """
    granted = undecided = None
    for rule in rules(home, environ, repository=every_file):
        if rule.verdict == DENY:
            return Decision(False, rule)
        if rule.verdict == GRANT:
            granted = rule
        elif rule.owner == "user" and (rule.raw or undecided is None or not undecided.raw):
            # A yes that has expired says more than that nothing was decided.
            undecided = rule if rule.verdict == SILENT else undecided
    if granted is None:
        assert undecided is not None
        return Decision(False, undecided)
    # Only now: it takes a few looks more, which nobody pays for whom recording is off anyway.
    for found in (
        () if every_file else _repository(home.app, home.checkout),
        nearby(home, environ),
    ):
        for rule in found:
            if rule.verdict == DENY:
                return Decision(False, rule)
    return Decision(True, granted, decision.parse_grant(granted.raw or ""))


def rules(
    home: ProjectPaths, environ: Mapping[str, str], every: bool = False, repository: bool = True
) -> Iterator[Rule]:
    """Every rule about this project in order with what it says; see `nearby()` for the rest.

    Args:
        home: the places to look at.
        environ: the variables to look at.
        every: also yield the variables that are not set, for `status --explain`.
        repository: also read the files of the repository.
    """
    yield _system(home)
    yield from environment_rules(home.app.upper().replace("-", "_"), environ, every)
    if repository:
        yield from _repository(home.app, home.checkout)
    yield _switch(
        "user",
        home.user_file,
        read_toml(home.user_file),
        "a grant is made by the command enable",
        everywhere=True,
    )
    yield from records(home)


def _repository(app: str, root: str) -> Iterator[Rule]:
    for path, marker in repository_files(app, root):
        yield _switch(
            "repository",
            path,
            _section(path, marker),
            "a committed file cannot speak for its readers",
        )


def nearby(home: ProjectPaths, environ: Mapping[str, str]) -> Iterator[Rule]:
    """What the projects around this one say, and where the grant may lie; they may deny only.

    Those are the repositories and projects that enclose this one, for a linked worktree of git
    also the main one: their files, and the user's denial for each.
    """
    repositories = enclosing_repositories(home.checkout)
    yield from _brought_along(home, environ, repositories)
    for root in enclosing_roots(home, environ, repositories):
        if root != home.checkout:
            yield from _repository(home.app, root)
        yield _record_elsewhere(home, root)
    if home.root != home.checkout:
        yield from _repository(home.app, home.root)


def _brought_along(
    home: ProjectPaths, environ: Mapping[str, str], repositories: list[str]
) -> Iterator[Rule]:
    """A denial where the grant lies in the repository it is about: a clone can bring it along."""
    if not repositories:
        return
    where = os.path.realpath(home.config)
    user = os.path.realpath(user_home(environ))
    for repository in repositories:
        below = where.startswith(f"{repository.rstrip('/')}/")
        if below and not f"{user}/".startswith(f"{repository.rstrip('/')}/"):
            says = f"{home.config} lies in the repository {repository}, so that it grants nothing"
            yield Rule("repository", repository, None, DENY, says)


def _record_elsewhere(home: ProjectPaths, root: str) -> Rule:
    """The user's decision for another root: only a no counts here."""
    try:
        place = projects.place_of(home, root)
    except ConsentError as error:
        return Rule("user", home.place_key, None, DENY, str(error), everywhere=True)
    if place is None:
        says = f"nothing was decided for {root}"
        return Rule("user", f"{home.config}/projects", None, SILENT, says)
    path = f"{home.config}/projects/{place}/{RECORD}"
    rule = _record(path, f"for {root}")
    if rule.verdict != GRANT:
        return rule
    return Rule("user", path, rule.raw, IGNORED, f"ignored: it is about {root} alone")


def environment_rules(
    prefix: str, environ: Mapping[str, str], every: bool = False
) -> Iterator[Rule]:
    """The rules of the environment alone."""
    for name in ("DO_NOT_TRACK", f"{prefix}_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED"):
        raw = environ.get(name)
        if raw is None:
            if every:
                yield Rule("environment", name, None, SILENT, "not set")
        elif raw.strip().casefold() in FALSE:
            yield Rule("environment", name, raw, SILENT, "does not deny")
        else:
            yield Rule("environment", name, raw, DENY, f"{name} is set", everywhere=True)
    yield from _ci(environ, every)
    for name in PYTEST_VARIABLES:
        raw = environ.get(name)
        if raw is not None:
            yield Rule("environment", name, raw, DENY, "running under pytest", everywhere=True)
        elif every:
            yield Rule("environment", name, None, SILENT, "not set")


def _ci(environ: Mapping[str, str], every: bool) -> Iterator[Rule]:
    raw = environ.get("CI")
    value = None if raw is None else raw.strip().casefold()
    if value and value in FALSE:
        yield Rule("environment", "CI", raw, SILENT, "says that this is no CI run")
        return
    if value:
        yield Rule("environment", "CI", raw, DENY, "running in CI", everywhere=True)
    elif every:
        yield Rule("environment", "CI", raw, SILENT, "not set")
    names: tuple[str, ...] = CI_VARIABLES
    if not _terminal():
        names += WEAK_CI_VARIABLES
    for name in names:
        raw = environ.get(name)
        if raw is not None and raw.strip().casefold() not in FALSE:
            yield Rule(
                "environment", name, raw, DENY, f"running in CI ({name} is set)", everywhere=True
            )
        elif every:
            says = "not set" if raw is None else "does not deny"
            yield Rule("environment", name, raw, SILENT, says)


def _terminal() -> bool:
    try:
        return os.isatty(0) or os.isatty(2)
    except OSError:
        return False


def _system(home: ProjectPaths) -> Rule:
    path = home.system_file
    try:
        data = private.read_regular(path, MAX_RECORD_BYTES + 1)
    except (OSError, ValueError) as error:
        # A link that leads nowhere is there all the same.
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        if missing and not os.path.islink(path):
            return Rule("system", path, None, SILENT, "no such file")
        return Rule("system", path, None, DENY, f"{path} cannot be read", everywhere=True)
    if len(data) > MAX_RECORD_BYTES:
        return Rule("system", path, None, DENY, f"{path} is too long to be read", everywhere=True)
    text = data.decode("utf-8", "replace")
    pairs = [line.partition("#")[0].partition("=") for line in text.splitlines()]
    said = {value.strip().casefold() for key, _, value in pairs if key.strip() == "enabled"}
    if said == {"true"}:
        return Rule("system", path, text.strip(), SILENT, "does not deny")
    return Rule("system", path, text.strip(), DENY, f"{path} denies", everywhere=True)


def _section(path: str, marker: bytes) -> Mapping[str, object] | None:
    table = read_toml(path, marker)
    if table is None or not marker:
        return table
    tool = table.get("tool", {})
    section = tool.get("telemetry_kit", {}) if isinstance(tool, dict) else None
    return section if isinstance(section, dict) else None


def _switch(
    owner: str,
    path: str,
    table: Mapping[str, object] | None,
    ignored: str,
    everywhere: bool = False,
) -> Rule:
    if table is None:
        return Rule(owner, path, None, DENY, f"{path} cannot be read", everywhere)
    if "enabled" not in table:
        return Rule(owner, path, None, SILENT, "says nothing")
    value = table["enabled"]
    if value is True:
        return Rule(owner, path, "enabled = true", IGNORED, f"ignored: {ignored}")
    raw = "enabled = false" if value is False else "enabled = ?"
    return Rule(owner, path, raw, DENY, f"{path} says {raw}", everywhere)


# -- the user's record -------------------------------------------------------------------------


def record_path(home: ProjectPaths, all_projects: bool) -> str | None:
    """Where the record is; None for a project where no place key exists yet."""
    if all_projects:
        return f"{home.config}/{RECORD}"
    place = projects.place_of(home)
    return None if place is None else f"{home.config}/projects/{place}/{RECORD}"


def is_decided(home: ProjectPaths) -> bool:
    """Whether the user has ever said yes or no here, whatever became of it."""
    try:
        place = projects.place_of(home)
    except ConsentError:
        place = None
    here = place is not None and has_decision(home, place)
    return here or os.path.lexists(f"{home.config}/{RECORD}")


def records(home: ProjectPaths) -> Iterator[Rule]:
    """What the user's records say, for all projects and for this one."""
    if not os.path.isdir(home.config):
        yield Rule("user", home.config, None, SILENT, "nothing was decided yet", everywhere=True)
        return
    yield for_all_projects(home)
    try:
        path = record_path(home, all_projects=False)
    except ConsentError as error:
        yield Rule("user", home.place_key, None, DENY, str(error), everywhere=True)
        return
    if path is not None:
        yield _record(path, "for this project")
    elif unplaced(home):
        yield Rule("user", home.place_key, None, DENY, key_is_gone(home), everywhere=True)
    else:
        yield Rule("user", f"{home.config}/projects", None, SILENT, "nothing was decided yet", True)


def for_all_projects(home: ProjectPaths) -> Rule:
    """What the user's record for all projects says."""
    return _record(f"{home.config}/{RECORD}", "for all projects", everywhere=True)


def mismatch(path: str, line: str, place: str) -> str:
    """Why a grant counts for nothing: it is about another place, or not what was decided last.

    So it is with a record that was restored from a backup, copied from another project or edited.

    Args:
        path: the record.
        line: what is in it.
        place: whose record this is: the name of a project's folders, or `all`.

    Returns:
        One phrase; empty where record and history agree.
    """
    if decision.place_of(line) != place:
        return f"{path} is not the consent record of this place"
    try:
        history = private.read(f"{os.path.dirname(path)}/{HISTORY}", _HISTORY_BYTES, last=True)
    except UnsafeFileError as error:
        return str(error)
    if not decision.is_last_grant(line, history or b""):
        return f"{path} is not the last decision of its history"
    return ""


def _place_in(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def is_place(name: str) -> bool:
    """Whether a folder may have its name from `projects.place_of()`."""
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


def unplaced(home: ProjectPaths) -> bool:
    """Whether there are decisions that nobody can tell the project of: the place key is gone."""
    return not os.path.lexists(home.place_key) and has_decision(home)


def has_decision(home: ProjectPaths, place: str = "") -> bool:
    """Whether something was decided about a place; about any single project by default."""
    folder = f"{home.config}/projects"
    try:
        names = [place] if place else [name for name in os.listdir(folder) if is_place(name)]
    except OSError:
        return False
    return any(os.path.lexists(f"{folder}/{name}/{RECORD}") for name in names)


def key_is_gone(home: ProjectPaths) -> str:
    """What to say then: one sentence, with the way out."""
    return (
        f"{home.place_key} is gone, so that nobody can tell which project a decision is about: "
        "reset --all-projects erases them all"
    )


def _record(path: str, scope: str, everywhere: bool = False) -> Rule:
    anew = f"decide anew, on or off{' --all-projects' * everywhere}"
    try:
        data = private.read(path, MAX_RECORD_BYTES)
    except UnsafeFileError as error:
        # One that was open to others may be theirs, whatever its mode will be.
        says = f"{error}: {private.remedy(path, mode=False) or anew}"
        return Rule("user", path, None, DENY, says, everywhere)
    if data is None:
        return Rule("user", path, None, SILENT, f"nothing was decided {scope}")
    raw = data.decode("ascii", "backslashreplace").strip()
    state, day = decision.parse_record(data, decision.today())
    if state == "yes":
        wrong = mismatch(path, raw, ALL if everywhere else _place_in(path))
        if wrong:
            return Rule("user", path, raw, DENY, f"{wrong}: {anew}", everywhere)
        return Rule("user", path, raw, GRANT, f"you said yes {scope} on {day}", everywhere)
    if state == "no":
        return Rule("user", path, raw, DENY, f"you said no {scope} on {day}", everywhere)
    if state == "expired":
        return Rule("user", path, raw, SILENT, f"your yes {scope} of {day} has expired")
    says = f"{path} is not a valid consent record: {anew}"
    return Rule("user", path, raw, DENY, says, everywhere)
