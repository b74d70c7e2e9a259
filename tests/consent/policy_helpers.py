"""Helpers of the tests of the consent policy."""

from pathlib import Path

from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import policy
from telemetry_kit.paths import ProjectPaths, find

SCOPE = "0123456789abcdef"


DAY = consent_decision.today()


LAST = consent_decision.a_year_after(DAY)


def line(decision: str, day: str = DAY, expires: str = LAST) -> bytes:
    """A consent record of version 1."""
    return f"v1 {decision} {day} notice=1 scope={SCOPE} expires={expires}\n".encode()


def decide(place, **environ: str) -> policy.Decision:
    """Return the decision for a project, with additional variables."""
    return policy.decide(place.home, {**place.environ, **environ})


SWITCHES = ("DO_NOT_TRACK", "FLOWSPEC_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED")


VENDORS = [
    "CONTINUOUS_INTEGRATION",
    "CI_NAME",
    "CI_APP_ID",
    "CI_BUILD_ID",
    "CI_BUILD_NUMBER",
    "BUILD_NUMBER",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "TF_BUILD",
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
    "JENKINS_URL",
    "HUDSON_URL",
    "TRAVIS",
    "CIRCLECI",
    "BUILDKITE",
    "DRONE",
    "APPVEYOR",
    "TEAMCITY_VERSION",
    "BITBUCKET_BUILD_NUMBER",
    "BITBUCKET_COMMIT",
    "CODEBUILD_BUILD_ID",
    "CODEBUILD_BUILD_ARN",
    "CIRRUS_CI",
    "SEMAPHORE",
    "GITEA_ACTIONS",
    "NETLIFY",
    "VERCEL",
    "RENDER",
    "CF_PAGES",
    "PROW_JOB_ID",
    "BUDDY",
    "AC_APPCIRCLE",
    "bamboo_planKey",
]


class Administered(ProjectPaths):
    """Project paths with a different path for the administrator's file."""

    system_file = ""  # type: ignore[assignment]


SETTINGS_FILE = ".flowspec/telemetry.toml"


PYPROJECT = "pyproject.toml"


def write(place, file: str, body: str) -> Path:
    """Write a setting into one of the project's files, in the package's table."""
    path = place.root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(body if file == SETTINGS_FILE else "[tool.telemetry_kit]\n" + body)
    return path


def rule_fields(rules) -> list[tuple[object, ...]]:
    """Return the fields of each rule as a tuple."""
    return [(r.owner, r.name, r.raw, r.verdict, r.says, r.everywhere) for r in rules]


def decide_in(start, place, app: str = "flowspec", **variables: str) -> policy.Decision:
    """Return the decision for a directory."""
    environ = {**place.environ, **variables}
    return policy.decide(find(app, str(start), environ), environ)


def allowed(place, *parts: str) -> bool:
    """Return whether recording is on in a directory of the project."""
    return decide_in(place.root.joinpath(*parts), place).allowed
