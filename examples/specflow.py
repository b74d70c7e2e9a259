"""A small spec-driven workflow on the command line: assess a spec, build it, test it, release it.

Each command belongs to a role and works on the files beside the spec. The telemetry is the lines
with `configure`, `tracks`, `role_session` and `track_role_event`: take them away and the tool does
the same, and so it does when they are off.
"""

import argparse
import json
import re
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry_kit import RoleEvent, configure, role_session, track_role_event, tracks

configure(
    app="flowspec",  # names the tool; the names below may be stored in plain text
    commands=["/pm:assess", "/pm:clarify", "/dev:build", "/qa:test", "/ops:release"],
    agents=["product-analyst", "backend-engineer", "quality-guardian", "release-manager"],
    workflows=["spec-to-code", "release-check"],
    context={"requirements": "measure"},
    errors=["SpecError"],
)

VAGUE = {"appropriate", "easy", "etc", "fast", "flexible", "nice", "quickly", "simple", "some"}
REQUIREMENT = re.compile(r"- \[[ x]\] (REQ-\d+): (.+)")
DETAIL = re.compile(r"\s+- (Rule|Accept): `(.+)`\s*")


class SpecError(Exception):
    """Something the person at the keyboard can put right; ends the command with exit code 1."""

    exit_code = 1


@dataclass
class Requirement:
    """One `- [ ] REQ-n: ...` item of a spec, with the details found below it."""

    id: str
    title: str
    last_line: int
    rule: str = ""
    accept: str = ""

    @property
    def remarks(self) -> list[str]:
        """What keeps this requirement from being clear, worst first."""
        missing = ["no rule"] * (not self.rule) + ["no acceptance line"] * (not self.accept)
        vague = sorted(VAGUE & set(re.findall(r"\w+", self.title.lower())))
        return missing + [f"vague word '{word}'" for word in vague]

    @property
    def ready(self) -> bool:
        """Whether it can be built and checked."""
        return bool(self.rule and self.accept)

    @property
    def clarity(self) -> int:
        """From 0 to 100: a missing detail costs 40, a vague word 10."""
        return max(0, 100 - sum(40 if remark.startswith("no ") else 10 for remark in self.remarks))


def read_spec(spec: Path) -> list[Requirement]:
    """Read the requirements of a Markdown spec, in its order."""
    found: dict[str, Requirement] = {}
    current: Requirement | None = None
    for number, line in enumerate(spec.read_text(encoding="utf-8").splitlines()):
        if item := REQUIREMENT.fullmatch(line.rstrip()):
            if item[1] in found:
                raise SpecError(f"{spec.name} has {item[1]} twice: give one of them another number")
            current = found[item[1]] = Requirement(item[1], item[2], number)
        elif current and (detail := DETAIL.fullmatch(line)):
            setattr(current, detail[1].lower(), detail[2])
            current.last_line = number
    if not found:
        raise SpecError(f"{spec.name} has no requirement: add a line such as '- [ ] REQ-1: ...'")
    return list(found.values())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, readably."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, advice: str) -> Any:
    """Read what an earlier step wrote; without it, say which step is missing."""
    if not path.exists():
        raise SpecError(f"there is no {path.name} yet: {advice}")
    return json.loads(path.read_text(encoding="utf-8"))


# The agents: the functions that do the work.


@tracks(RoleEvent.AGENT_INVOKED, agent="product-analyst")
def assess_spec(spec: Path) -> list[Requirement]:
    """Judge how clear each requirement is, and write `assessment.json`."""
    requirements = read_spec(spec)
    rows = [
        {"id": r.id, "clarity": r.clarity, "ready": r.ready, "remarks": r.remarks}
        for r in requirements
    ]
    average = sum(r.clarity for r in requirements) // len(requirements)
    write_json(spec.with_name("assessment.json"), {"clarity": average, "requirements": rows})
    return requirements


@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")
def write_module(spec: Path) -> tuple[list[Requirement], list[Requirement]]:
    """Write `product.py`, a function for each requirement assessed as ready.

    Returns those built and those left out.
    """
    assessment = read_json(spec.with_name("assessment.json"), f"run `pm assess {spec.name}` first")
    ready = {row["id"] for row in assessment["requirements"] if row["ready"]}
    requirements = read_spec(spec)
    built = [r for r in requirements if r.id in ready and r.ready]
    source = f'"""Built from {spec.name}."""\n' + "".join(map(write_function, built))
    spec.with_name("product.py").write_text(source, encoding="utf-8")
    return built, [r for r in requirements if r not in built]


def write_function(requirement: Requirement) -> str:
    """Turn a rule into a Python function whose doctest is the acceptance line."""
    head, _, expression = requirement.rule.partition(" = ")
    title = f"{requirement.id}: {requirement.title}."
    doc = f'r"""{title}\n\n    >>> {requirement.accept}\n    True\n    """'
    source = f"\n\ndef {head}:\n    {doc}\n    return {expression}\n"
    try:
        compile(source, requirement.id, "exec")
    except SyntaxError as problem:
        raise SpecError(
            f"the rule of {requirement.id} is not `name(arguments) = expression`"
        ) from problem
    return source


@tracks(RoleEvent.HANDOFF_CLICKED, source_agent="backend-engineer", target_agent="quality-guardian")
def hand_over(spec: Path, built: list[Requirement]) -> None:
    """Leave `handoff.json` for QA: what there is to check."""
    write_json(
        spec.with_name("handoff.json"), {"module": "product.py", "built": [r.id for r in built]}
    )


@tracks(RoleEvent.AGENT_INVOKED, agent="quality-guardian")
def verify(spec: Path) -> list[Requirement]:
    """Check that each requirement is implemented and accepted; write `report.json`.

    Raises SpecError if one is not.
    """
    handoff = read_json(
        spec.with_name("handoff.json"), f"run `dev build {spec.name} --handoff` first"
    )
    requirements = read_spec(spec)
    try:
        names = runpy.run_path(str(spec.with_name(handoff["module"])))
    except Exception as problem:
        raise SpecError(f"{handoff['module']} cannot be run: {type(problem).__name__}") from problem
    functions = {
        str(value.__doc__).partition(":")[0]: value for value in names.values() if callable(value)
    }
    results = {r.id: check(functions.get(r.id), names) for r in requirements}
    write_json(spec.with_name("report.json"), {"results": results})
    if failed := [f"{name} {result}" for name, result in results.items() if result != "passed"]:
        raise SpecError(f"{len(failed)} of {len(results)} requirements failed: {', '.join(failed)}")
    return requirements


def check(function: Callable[..., object] | None, names: dict[str, Any]) -> str:
    """Run the acceptance line of one function, and say in words how it went."""
    import doctest  # deferred: only QA needs it, and it brings unittest and pdb

    if function is None:
        return "is not implemented"
    tests = doctest.DocTestFinder(recurse=False).find(
        function, "product", module=False, globs=names
    )
    results = [
        doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None) for test in tests
    ]
    return "is not accepted" if any(result.failed for result in results) else "passed"


@tracks(RoleEvent.AGENT_INVOKED, agent="release-manager")
def write_notes(spec: Path, requirements: list[Requirement]) -> None:
    """Write `RELEASE.md`, and tick the requirements off in the spec."""
    items = "".join(f"- {r.title} ({r.id})\n" for r in requirements)
    spec.with_name("RELEASE.md").write_text(f"# Release notes\n\n{items}", encoding="utf-8")
    text = spec.read_text(encoding="utf-8")
    spec.write_text(text.replace("- [ ] REQ-", "- [x] REQ-"), encoding="utf-8")


# The commands: from the outside in, who acts and what is recorded.


@role_session("pm", command="/pm:assess")
@tracks(RoleEvent.COMMAND_EXECUTED)
def assess(spec: Path) -> None:
    """Say how clear each requirement is."""
    first_time = not spec.with_name("assessment.json").exists()
    requirements = assess_spec(spec)
    if first_time:  # a workflow that spans processes: it starts here and ends in `release`
        count = {"requirements": len(requirements)}
        track_role_event(RoleEvent.WORKFLOW_STARTED, workflow="spec-to-code", context=count)
    for r in requirements:
        print(f"{r.id}  clarity {r.clarity:3}  {', '.join(r.remarks) or 'clear'}")


@role_session("pm", command="/pm:clarify")
@tracks(RoleEvent.COMMAND_EXECUTED)
def clarify(spec: Path, requirement: str, accept: str) -> None:
    """Give a requirement its acceptance line, and assess the spec again."""
    target = next((r for r in read_spec(spec) if r.id == requirement), None)
    if target is None or target.accept:
        raise SpecError(f"{spec.name} has no {requirement} that lacks an acceptance line")
    lines = spec.read_text(encoding="utf-8").splitlines()
    lines.insert(target.last_line + 1, f"  - Accept: `{accept}`")
    spec.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ready = sum(r.ready for r in assess_spec(spec))
    print(f"{requirement} has its acceptance line; requirements ready to build: {ready}")


@role_session("dev", command="/dev:build")
@tracks(RoleEvent.COMMAND_EXECUTED)
def build(spec: Path, handoff: bool) -> None:
    """Write product.py, with a function for each requirement that is ready."""
    built, left_out = write_module(spec)
    for r in built:
        print(f"{r.id}  built")
    for r in left_out:
        print(f"{r.id}  left out: {', '.join(r.remarks) or 'not assessed since it changed'}")
    if handoff:
        hand_over(spec, built)
        print("handed over to QA")


@role_session("qa", command="/qa:test")
@tracks(RoleEvent.COMMAND_EXECUTED)
def test(spec: Path) -> None:
    """Check that each requirement is implemented and does what it should."""
    print(f"all {len(verify(spec))} requirements passed")


@role_session("ops", command="/ops:release")
@tracks(RoleEvent.COMMAND_EXECUTED)
def release(spec: Path) -> None:
    """Write the release notes, once QA has had the last word."""
    with role_session("qa", command="/ops:release", workflow="release-check"):
        requirements = verify(spec)
    write_notes(spec, requirements)
    count = {"requirements": len(requirements)}
    track_role_event(RoleEvent.WORKFLOW_COMPLETED, workflow="spec-to-code", context=count)
    print(f"released {len(requirements)} requirements: see RELEASE.md")


ROLES = {
    "pm": ("Product management: is the spec clear?", (assess, clarify)),
    "dev": ("Development: build what is clear.", (build,)),
    "qa": ("Quality: is all of it there, and right?", (test,)),
    "ops": ("Operations: release what was tested.", (release,)),
}


def existing(text: str) -> Path:
    """A file that is there; argparse tells the user if it is not."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def main() -> None:
    """Run the tool; a `SpecError` ends it with one sentence and exit code 1."""
    parser = argparse.ArgumentParser(description="From a spec to tested code, role by role.")
    roles = parser.add_subparsers(metavar="ROLE", required=True)
    for role, (text, functions) in ROLES.items():
        names = roles.add_parser(role, help=text).add_subparsers(metavar="COMMAND", required=True)
        for function in functions:
            command = names.add_parser(function.__name__, help=function.__doc__)
            command.set_defaults(function=function)
            command.add_argument("spec", type=existing, help="the spec, a Markdown file")
            if function is clarify:
                command.add_argument("requirement", help="its number, such as REQ-3")
                command.add_argument("accept", help="a Python expression that will be true")
            if function is build:
                command.add_argument("--handoff", action="store_true", help="hand over to QA")
    given = vars(parser.parse_args())
    try:
        given.pop("function")(**given)
    except SpecError as problem:
        print(f"specflow: {problem}", file=sys.stderr)
        raise SystemExit(problem.exit_code) from None


if __name__ == "__main__":
    main()
