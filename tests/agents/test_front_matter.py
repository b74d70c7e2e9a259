"""Of a front matter, simple names and hand-offs are read, and any other form is refused."""

import pytest

from telemetry_kit.agents.front_matter import UnknownForm, read

SPEC_KIT = """\
---
description: Execute the plan: with a colon
handoffs: \n  - label: Create Tasks
    agent: speckit.tasks
    prompt: Break the plan into tasks
    send: true
  - label: Create Checklist
    prompt: |
      Create a checklist.
      agent: not-an-agent
    agent: 'speckit.checklist'  # the last one
scripts:
  sh: scripts/bash/setup-plan.sh --json
  agent: not-a-handoff
---

agent: no-front-matter
"""


def matter(*lines: str) -> str:
    """Return a file with a front matter."""
    return "\n".join(["---", *lines, "---", "name: body", ""])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", [])),
        ("# no front matter\n\n---\nname: x\n---\n", ("", [])),
        (matter("name: reviewer"), ("reviewer", [])),
        (matter("name:   back end  # a remark"), ("back end", [])),
        (matter("name: c#-expert"), ("c#-expert", [])),
        (matter("name: 'it''s'"), ("it's", [])),
        (matter('name: "a: b \\"c\\" \\u00e9"  # x'), ('a: b "c" é', [])),
        (matter("name: x").replace("\n", "\r\n"), ("x", [])),
        ("\ufeff" + matter("name: x"), ("x", [])),
        (matter("title: x", "nested:", "  name: y"), ("", [])),
        (matter("handoffs: []"), ("", [])),
        (matter("handoffs:", "next: x"), ("", [])),
        (matter("handoffs:", "- agent: a", "  label: x", "- agent: b", "z: 1"), ("", ["a", "b"])),
        (matter("name: plan", "handoffs:", "    - agent: a"), ("plan", ["a"])),
        (SPEC_KIT, ("", ["speckit.tasks", "speckit.checklist"])),
    ],
)
def test_what_is_read(text: str, expected: tuple[str, list[str]]) -> None:
    """A name in one line and the agents of a list of hand-offs are read."""
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "---\nname: x\n",
        matter("name: >", "  folded"),
        matter("name: |", "  literal"),
        matter("name: *alias"),
        matter("name: &anchor x"),
        matter("name: !!str x"),
        matter("name: [a, b]"),
        matter("name: {a: b}"),
        matter("name: a: b"),
        matter("name:"),
        matter("name: # nothing"),
        matter('name: "open'),
        matter('name: "bad \\q escape"'),
        matter("name: a", "name: b"),
        matter("handoffs: [{agent: a}]"),
        matter("handoffs: none"),
        matter("handoffs:", "  - agent: [a]"),
        matter("handoffs:", "  - agent:"),
    ],
)
def test_what_is_refused(text: str) -> None:
    """Any other form is refused, and never guessed."""
    with pytest.raises(UnknownForm):
        read(text)
