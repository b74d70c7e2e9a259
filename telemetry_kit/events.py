"""`RoleEvent`, the Python handle on the catalog's event types.

The catalog holds the meaning of each; nothing but the names is repeated here, and a test keeps
both equal.
"""

from enum import StrEnum


class RoleEvent(StrEnum):
    """The event types that can be recorded. Each one equals its string value."""

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
