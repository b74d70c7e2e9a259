"""May we record? Owners, vetoes, the user's decision, and the trace of the rules.

Any denial wins and only the user can grant. A source that cannot be read or parsed denies.
Nothing here writes an event, and a decision creates no file.
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
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.settings import current, read_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from telemetry_kit.consent.decision import Grant


DENY = "deny"
GRANT = "grant"
SILENT = "silent"
IGNORED = "ignored"
# What a record for all projects has in place of the name of a project's directories.
ALL = "all"

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
# Developers set these too, so they deny only if the process has no terminal.
WEAK_CI_VARIABLES = ("BUILD_ID", "run_ID")
PYTEST_VARIABLES = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST")
RECORD = "telemetry.enabled"
HISTORY = "telemetry.history.jsonl"
# About seven decisions, with which a grant is compared.
_HISTORY_BYTES = 4_096
MAX_RECORD_BYTES = 65_536


class Rule:
    """One rule of the decision and its result.

    Args:
        owner: `system`, `environment`, `repository` or `user`.
        name: the variable, file or key that was read.
        raw: its raw value as text; None if it does not exist.
        verdict: `deny`, `grant`, `silent` or `ignored`.
        says: one short sentence for people.
        everywhere: whether the rule covers every project.
        dirs: the project's directories, in the rule of its consent record.
    """

    __slots__ = ("dirs", "everywhere", "name", "owner", "raw", "says", "verdict")

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
        self.dirs: ProjectDirs | None = None


class Decision:
    """The decision, and the rule that made it.

    Args:
        allowed: whether events may be recorded.
        rule: the deciding rule.
        grant: the scope of the user's grant; None without one.
        dirs: the project's directories, if recording is allowed and they have a name.
    """

    __slots__ = ("allowed", "dirs", "grant", "rule")

    def __init__(
        self,
        allowed: bool,
        rule: Rule,
        grant: Grant | None = None,
        dirs: ProjectDirs | None = None,
    ) -> None:
        self.allowed = allowed
        self.rule = rule
        self.grant = grant
        self.dirs = dirs

    @property
    def vetoed(self) -> bool:
        """Whether a rule of another owner than the user denies."""
        return not self.allowed and self.rule.verdict == DENY and self.rule.owner != "user"

    @property
    def keep_days(self) -> int:
        """How many days lines are stored: as configured, but not longer than the grant allows."""
        configured = current().retention_days
        return configured if self.grant is None else min(configured, self.grant.keep_days)


def decide(
    paths: ProjectPaths, environ: Mapping[str, str], *, every_file: bool = False
) -> Decision:
    """Decide for one project: the first denial, else the user's grant, else off.

    Args:
        paths: the project's paths.
        environ: the environment variables.
        every_file: read the repository's files even without a grant, to report that they deny.
            A recording program opens no file of a repository before a grant.
    """
    granted = undecided = dirs = None
    for rule in rules(paths, environ, repository=every_file):
        if rule.verdict == DENY:
            return Decision(False, rule)
        dirs = rule.dirs or dirs
        if rule.verdict == GRANT:
            granted = rule
        elif rule.owner == "user" and (rule.raw or undecided is None or not undecided.raw):
            # A grant that has expired tells more than a missing one.
            undecided = rule if rule.verdict == SILENT else undecided
    if granted is None:
        assert undecided is not None
        return Decision(False, undecided)
    # These rules read more files, so they come last: most users never reach them.
    for found in (
        () if every_file else repository_rules(paths.directory, paths.checkout),
        nearby(paths, environ, dirs),
    ):
        for rule in found:
            if rule.verdict == DENY:
                return Decision(False, rule)
    return Decision(True, granted, decision.parse_grant(granted.raw or ""), dirs)


def rules(
    paths: ProjectPaths, environ: Mapping[str, str], every: bool = False, repository: bool = True
) -> Iterator[Rule]:
    """Evaluate every rule about this project in order; `nearby()` has the others.

    Args:
        paths: the project's paths.
        environ: the environment variables.
        every: also yield the variables that are not set, for `status --explain`.
        repository: also read the files of the repository.
    """
    yield system_rule(paths.system_file)
    yield from environment_rules(paths.app.upper().replace("-", "_"), environ, every)
    if repository:
        yield from repository_rules(paths.directory, paths.checkout)
    yield switch_rule(
        "user",
        paths.user_file,
        read_toml(paths.user_file),
        "only the command enable grants consent",
        everywhere=True,
    )
    yield from records(paths)


def nearby(
    paths: ProjectPaths, environ: Mapping[str, str], dirs: ProjectDirs | None = None
) -> Iterator[Rule]:
    """Evaluate the rules of enclosing projects, and of where the grant is; they may only deny.

    The enclosing projects are the repositories and projects that contain this one. For a linked
    worktree of git, they include the main worktree. Their files and the user's denial for each
    of them count. `dirs` are the project's directories, if they were read already.
    """
    repositories = enclosing_repositories(paths.checkout)
    config = os.path.realpath(paths.config)
    user = f"{os.path.realpath(user_home(environ))}/"
    for repository in repositories:
        inside = f"{repository.rstrip('/')}/"
        # A clone can bring such a grant along.
        if config.startswith(inside) and not user.startswith(inside):
            says = (
                f"{paths.config} is inside the repository {repository}, so its grants are ignored"
            )
            yield Rule("repository", repository, None, DENY, says)
    for root in enclosing_roots(paths, environ, repositories):
        if root != paths.checkout:
            yield from repository_rules(paths.directory, root)
        try:
            dirs = dirs or ProjectDirs.of(paths)
        except ConsentError as error:
            yield Rule("user", paths.directory_key, None, DENY, str(error), everywhere=True)
            continue
        if dirs is None:
            yield Rule("user", f"{paths.config}/projects", None, SILENT, f"no decision for {root}")
            continue
        rule = record_rule(f"{dirs.of_root(root).config}/{RECORD}", f"for {root}")
        if rule.verdict == GRANT:
            rule.verdict, rule.says = IGNORED, f"ignored: it covers only {root}"
        yield rule
    if paths.root != paths.checkout and not paths.is_user_scope:
        yield from repository_rules(paths.directory, paths.root)


def environment_rules(
    prefix: str, environ: Mapping[str, str], every: bool = False
) -> Iterator[Rule]:
    """Evaluate the rules of the environment; with `every`, also the variables that are not set."""
    for name in ("DO_NOT_TRACK", f"{prefix}_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED"):
        raw = environ.get(name)
        if raw is not None or every:
            yield variable_rule(name, raw, f"{name} is set" if is_true(raw) else "")
    yield from ci_rules(environ, every)
    for name in PYTEST_VARIABLES:
        raw = environ.get(name)
        if raw is not None or every:
            yield variable_rule(name, raw, "" if raw is None else "running under pytest")


def ci_rules(environ: Mapping[str, str], every: bool) -> Iterator[Rule]:
    """Evaluate the variables of CI systems; `CI=false` overrules the others."""
    raw = environ.get("CI")
    if raw and raw.strip() and not is_true(raw):
        yield Rule("environment", "CI", raw, SILENT, "this is no CI run")
        return
    if is_true(raw) or every:
        yield variable_rule("CI", raw, "running in CI" if is_true(raw) else "")
    for name in CI_VARIABLES if has_terminal() else CI_VARIABLES + WEAK_CI_VARIABLES:
        raw = environ.get(name)
        if is_true(raw) or every:
            says = f"running in CI ({name} is set)" if is_true(raw) else ""
            yield variable_rule(name, raw, says)


def is_true(raw: str | None) -> bool:
    """Whether a variable is set to anything but a value that means no."""
    return raw is not None and raw.strip().casefold() not in FALSE


def variable_rule(name: str, raw: str | None, denial: str) -> Rule:
    """The rule of a variable, which denies if `denial` has a text."""
    if denial:
        return Rule("environment", name, raw, DENY, denial, everywhere=True)
    says = "not set" if raw is None else "does not deny"
    return Rule("environment", name, raw, SILENT, says)


def has_terminal() -> bool:
    """Whether stdin or stderr is a terminal."""
    try:
        return os.isatty(0) or os.isatty(2)
    except OSError:
        return False


def system_rule(path: str) -> Rule:
    """The rule of the administrator's file."""
    try:
        data = private.read_regular(path, MAX_RECORD_BYTES + 1)
    except (OSError, ValueError) as error:
        # A link whose target is missing denies.
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        if missing and not os.path.islink(path):
            return Rule("system", path, None, SILENT, "no such file")
        return Rule("system", path, None, DENY, f"{path} cannot be read", everywhere=True)
    if len(data) > MAX_RECORD_BYTES:
        return Rule("system", path, None, DENY, f"{path} is too long", everywhere=True)
    text = data.decode("utf-8", "replace")
    pairs = [line.partition("#")[0].partition("=") for line in text.splitlines()]
    values = {value.strip().casefold() for key, _, value in pairs if key.strip() == "enabled"}
    if values == {"true"}:
        return Rule("system", path, text.strip(), SILENT, "does not deny")
    return Rule("system", path, text.strip(), DENY, f"{path} denies", everywhere=True)


def repository_rules(directory: str, root: str) -> Iterator[Rule]:
    """The rules of the files that a repository may contain."""
    for path, marker in repository_files(directory, root):
        table = read_toml(path, marker)
        if table is not None and marker:
            tool = table.get("tool", {})
            section = tool.get("telemetry_kit", {}) if isinstance(tool, dict) else None
            table = section if isinstance(section, dict) else None
        yield switch_rule(
            "repository", path, table, "a committed file cannot grant consent for other people"
        )


def switch_rule(
    owner: str,
    path: str,
    table: Mapping[str, object] | None,
    ignored: str,
    everywhere: bool = False,
) -> Rule:
    """The rule of a file that denies with `enabled = false` and cannot grant."""
    if table is None:
        return Rule(owner, path, None, DENY, f"{path} cannot be read", everywhere)
    if "enabled" not in table:
        return Rule(owner, path, None, SILENT, "does not deny")
    value = table["enabled"]
    if value is True:
        return Rule(owner, path, "enabled = true", IGNORED, f"ignored: {ignored}")
    raw = "enabled = false" if value is False else "enabled = ?"
    return Rule(owner, path, raw, DENY, f"{path} has {raw}", everywhere)


# -- the user's record -------------------------------------------------------------------------


def is_decided(paths: ProjectPaths) -> bool:
    """Whether a record of the user covers this project: a grant or a denial, valid or not."""
    try:
        dirs = ProjectDirs.of(paths)
    except ConsentError:
        dirs = None
    return (dirs is not None and has_record(dirs)) or os.path.lexists(f"{paths.config}/{RECORD}")


def has_record(dirs: ProjectDirs) -> bool:
    """Whether a record of the user is about this project alone."""
    return os.path.lexists(f"{dirs.config}/{RECORD}")


def has_project_records(paths: ProjectPaths) -> bool:
    """Whether records of the user are about single projects."""
    folder = f"{paths.config}/projects"
    try:
        names = filter(is_directory_name, os.listdir(folder))
    except OSError:
        return False
    return any(os.path.lexists(f"{folder}/{name}/{RECORD}") for name in names)


def is_directory_name(name: str) -> bool:
    """Whether `ProjectDirs` may have given a directory its name."""
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


def lost_key_problem(paths: ProjectPaths) -> str:
    """Why decisions cannot be matched to their projects; empty if they can."""
    if os.path.lexists(paths.directory_key) or not has_project_records(paths):
        return ""
    return (
        f"{paths.directory_key} is missing, so no decision can be matched to its project: "
        "reset --all-projects deletes them all"
    )


def records(paths: ProjectPaths) -> Iterator[Rule]:
    """The rules of the user's records, for all projects and for this one."""
    if not os.path.isdir(paths.config):
        yield Rule("user", paths.config, None, SILENT, "no decision yet", everywhere=True)
        return
    yield for_all_projects(paths)
    try:
        dirs = ProjectDirs.of(paths)
    except ConsentError as error:
        yield Rule("user", paths.directory_key, None, DENY, str(error), everywhere=True)
        return
    if dirs is not None:
        rule = record_rule(f"{dirs.config}/{RECORD}", f"for {paths.scope}")
        rule.dirs = dirs
        yield rule
    elif problem := lost_key_problem(paths):
        yield Rule("user", paths.directory_key, None, DENY, problem, everywhere=True)
    else:
        yield Rule("user", f"{paths.config}/projects", None, SILENT, "no decision yet", True)


def for_all_projects(paths: ProjectPaths) -> Rule:
    """The rule of the user's record for all projects."""
    return record_rule(f"{paths.config}/{RECORD}", "for all projects", everywhere=True)


def record_rule(path: str, scope: str, everywhere: bool = False) -> Rule:
    """The rule of one consent record; `scope` says in words what it is about."""
    remedy = f"run on or off{' --all-projects' * everywhere} to decide again"
    try:
        data = private.read(path, MAX_RECORD_BYTES)
    except UnsafeFileError as error:
        # Another user may have written a file that was open to others, so a chmod is no remedy.
        says = f"{error}: {private.remedy(path, mode=False) or remedy}"
        return Rule("user", path, None, DENY, says, everywhere)
    if data is None:
        return Rule("user", path, None, SILENT, f"no decision {scope}")
    raw = data.decode("ascii", "backslashreplace").strip()
    state, day = decision.parse_record(data, decision.today())
    if state == "yes":
        problem = mismatch(path, raw, ALL if everywhere else path.split("/")[-2])
        if problem:
            return Rule("user", path, raw, DENY, f"{problem}: {remedy}", everywhere)
        return Rule("user", path, raw, GRANT, f"you granted consent {scope} on {day}", everywhere)
    if state == "no":
        return Rule("user", path, raw, DENY, f"you denied consent {scope} on {day}", everywhere)
    if state == "expired":
        return Rule("user", path, raw, SILENT, f"your consent {scope} of {day} has expired")
    says = f"{path} is not a valid consent record: {remedy}"
    return Rule("user", path, raw, DENY, says, everywhere)


def mismatch(path: str, line: str, directory: str) -> str:
    """Why a grant does not count: it is about another project, or not the last decision.

    A record that was restored from a backup, copied from another project or edited differs so.
    `directory` is the name of the project's directories, or `all`. The result is empty if record
    and history agree.
    """
    if decision.value_of(line, "place") != directory:
        return f"{path} is the consent record of another project"
    try:
        history = private.read(f"{os.path.dirname(path)}/{HISTORY}", _HISTORY_BYTES, last=True)
    except UnsafeFileError as error:
        return str(error)
    if not decision.is_last_grant(line, history or b""):
        return f"{path} is not the last decision of its history"
    return ""
