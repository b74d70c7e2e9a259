"""`RoleEvent`, the Python handle on the catalog's event types.

The catalog holds the meaning of each; nothing but the names is repeated here, and a test keeps
both equal.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING or "enum" in sys.modules:
    from enum import StrEnum as _Members
else:
    # enum would add a quarter of a bare interpreter to a program that has not loaded it. Programs
    # with argparse, re, click or typer have; for the others this does what StrEnum does, except
    # that its members are no instances of enum.Enum. The same tests run over both.

    class _MembersType(type):
        def __new__(meta, name, bases, body):
            values = {k: v for k, v in body.items() if k[0] != "_"}
            cls = super().__new__(meta, name, bases, {k: body[k] for k in body if k[0] == "_"})
            made = {}
            for key, value in values.items():
                made[key] = member = str.__new__(cls, value)
                member.__dict__.update(_name_=key, _value_=value, name=key, value=value)
                super().__setattr__(cls, key, member)
            super().__setattr__(cls, "_member_map_", made)
            return cls

        def __call__(cls, value):
            for member in cls:
                if str.__eq__(member, value) is True:
                    return member
            raise ValueError(f"{value!r} is not a valid {cls.__name__}")

        def __iter__(cls):
            return iter(cls._member_map_.values())

        def __reversed__(cls):
            return reversed(cls._member_map_.values())

        def __len__(cls):
            return len(cls._member_map_)

        def __bool__(cls):
            return True

        def __contains__(cls, value):
            return isinstance(value, str) and any(str.__eq__(m, value) for m in cls)

        def __getitem__(cls, name):
            return cls._member_map_[name]

        def __setattr__(cls, name, value):
            if name in cls._member_map_:
                raise AttributeError(f"cannot reassign member {name!r}")
            super().__setattr__(name, value)

        def __delattr__(cls, name):
            raise AttributeError(f"cannot delete member {name!r}")

        def __dir__(cls):
            return [*super().__dir__(), *cls._member_map_, "__members__"]

        def __repr__(cls):
            return f"<enum {cls.__name__!r}>"

        @property
        def __members__(cls):
            return dict(cls._member_map_)

    class _Members(str, metaclass=_MembersType):
        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __str__(self):
            return self.value

        def __format__(self, spec):
            return format(self.value, spec)

        def __hash__(self):
            return hash(self.value)

        def __reduce_ex__(self, protocol):
            return type(self), (self.value,)

        def __copy__(self):
            return self

        def __deepcopy__(self, memo):
            return self

        def __setattr__(self, name, value):
            raise AttributeError(f"cannot change member {self.name!r}")


class RoleEvent(_Members):
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
