"""Read two simple keys of a front matter, `name` and `handoffs`, and refuse any other form."""

from __future__ import annotations

import json
import re

_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)
_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE)
_KEY = re.compile(r"^(name|handoffs)[ \t]*:(?:[ \t]+(.*))?$", re.MULTILINE)
_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')[ \t]*(?:#.*)?""")
# A plain text in YAML does not begin so.
_INDICATORS = "[]{}>|&*!%@`\"'#,?-:"


class UnknownForm(Exception):  # noqa: N818 - a result, not an error
    """The front matter has a form that is not read here."""


def read(text: str) -> tuple[str, list[str]]:
    """Read the front matter of a Markdown file.

    Args:
        text: the file.

    Returns:
        The name, or an empty string if there is none, and the agents that work is handed to.

    Raises:
        UnknownForm: a key has another form than a text in one line, or a list of such mappings.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    begin = _FENCE.match(text)
    if begin is None:
        return "", []
    end = _END.search(text, begin.end())
    if end is None:
        raise UnknownForm
    matter = text[begin.end() : end.start()]
    found = {match[1]: match for match in _KEY.finditer(matter)}
    if len(found) < len(_KEY.findall(matter)):
        raise UnknownForm  # the same key twice
    name = scalar(found["name"][2] or "") if "name" in found else ""
    if "handoffs" not in found:
        return name, []
    match = found["handoffs"]
    return name, agents_of((match[2] or "").strip(), matter[match.end() :])


def scalar(value: str) -> str:
    """Return a text in one line, plain or in quotes.

    Raises:
        UnknownForm: it has another form.
    """
    value = value.strip()
    quoted = _QUOTED.fullmatch(value)
    if quoted and value[0] == "'":
        return quoted[1][1:-1].replace("''", "'")
    if quoted:
        try:
            return str(json.loads(quoted[1]))
        except ValueError:
            raise UnknownForm from None
    plain = re.split(r"(?:^|[ \t])#", value, maxsplit=1)[0].strip()
    if not plain or plain[0] in _INDICATORS or ": " in plain or plain.endswith(":"):
        raise UnknownForm
    return plain


def agents_of(value: str, below: str) -> list[str]:
    """Return the values of `agent` in a list of mappings.

    Args:
        value: what follows the key in its line.
        below: the lines after it.

    Raises:
        UnknownForm: it is no such list.
    """
    if value == "[]":
        return []
    if value and not value.startswith("#"):
        raise UnknownForm
    found: list[str] = []
    dash = column = -1
    for line in below.split("\n"):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        at = len(line) - len(line.lstrip(" "))
        is_item = words.startswith("- ") and (dash < 0 or at == dash)
        if dash < 0 and not is_item:
            break  # an empty list
        if is_item:
            dash = at
            words = line[at + 1 :].lstrip(" ")
            at = column = len(line) - len(words)
        elif at <= dash:
            break
        # A deeper line belongs to the text of another key.
        if at == column and words.startswith("agent:"):
            found.append(scalar(words.removeprefix("agent:")))
    return found
