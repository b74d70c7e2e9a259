"""`RoleEvent`: the event types.

The catalog has their meanings; a test compares the names.
"""

from enum import StrEnum


class RoleEvent(StrEnum):
    """The event types that can be recorded. Each one equals its string value.

    Example:
        >>> from telemetry_kit import RoleEvent
        >>> RoleEvent.AGENT_INVOKED == "agent.invoked"
        True
        >>> RoleEvent("role.selected").name
        'ROLE_SELECTED'
    """

    ROLE_SELECTED = "role.selected"
    ROLE_CHANGED = "role.changed"
    AGENT_INVOKED = "agent.invoked"
    AGENT_STARTED = "agent.started"
    AGENT_COMPLETED = "agent.completed"
    AGENT_FAILED = "agent.failed"
    HANDOFF_CLICKED = "handoff.clicked"
    HANDOFF_COMPLETED = "handoff.completed"
    COMMAND_EXECUTED = "command.executed"
    COMMAND_COMPLETED = "command.completed"
    COMMAND_FAILED = "command.failed"
    WORKFLOW_STARTED = "workflow.started"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
