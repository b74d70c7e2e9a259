"""Words and limits that settings and the catalog share; a program that is off loads no more."""

MEASURE = "measure"
IDENTIFIER = "identifier"
# Classes that a host may give to a context key, besides a closed list of tokens.
CONTEXT_CLASSES = (IDENTIFIER, MEASURE, "flag")

ROLES = ("pm", "arch", "dev", "sec", "qa", "ops", "all")
RESOLUTIONS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
VOCABULARIES = ("roles", "agents", "commands", "workflows")

MAX_DECLARED_BYTES = 128
PSEUDONYM_PREFIX = "h:"
# Which vocabulary a field takes its names from; a test compares it with the catalog.
VOCABULARY_OF = {
    "role": "roles",
    "command": "commands",
    "agent": "agents",
    "workflow": "workflows",
    "source_agent": "agents",
    "target_agent": "agents",
    "previous_role": "roles",
}
