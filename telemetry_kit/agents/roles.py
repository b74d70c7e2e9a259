"""The roles of commands: the table `command_roles` in the files that may declare names.

A key is a command, or a beginning of commands with `*` at its end, and the value is a role.
"""

from telemetry_kit import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths

TABLE = "command_roles"


def role_of(command: str, paths: "ProjectPaths") -> "str | None":
    """The role of a command, by the project's file and then by the user's; None if it has none.

    The recorder has parsed both files, and a file is parsed again only after it changed.

    Args:
        command: its name, with or without the slash at its beginning.
        paths: the project's paths.
    """
    for table in map(settings.read_toml, paths.naming_files):
        role = role_in((table or {}).get(TABLE), command)
        if role is not None:
            return role
    return None


def role_in(mapping: object, command: str) -> "str | None":
    """The role of a command in a table; the longest key that fits it decides."""
    if not isinstance(mapping, dict):
        return None
    name = with_slash(command)
    found, length = None, -1
    for key, role in mapping.items():
        if is_mapping(key, role) and fits(with_slash(key), name) and len(key) > length:
            found, length = role, len(key)
    return found


def is_mapping(key: object, role: object) -> bool:
    """Whether a key and its role can be used."""
    return settings.why_not_allowed(key) is None and settings.why_not_allowed(role) is None


def fits(key: str, name: str) -> bool:
    """Whether a key of the table stands for a command."""
    return name.startswith(key[:-1]) if key.endswith("*") else name == key


def with_slash(command: str) -> str:
    """The name of a command with one slash at its beginning."""
    return "/" + command.lstrip("/")
