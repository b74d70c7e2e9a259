"""Words, limits and days that settings, keys, decisions and the catalog share."""

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


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, as `YYYY-MM-DD`."""
    year, month, day = text[:4], text[5:7], text[8:]
    if len(text) != 10 or text[4] + text[7] != "--" or not (year + month + day).isdigit():
        return False
    longest = 31 - (month in ("04", "06", "09", "11")) - 3 * (month == "02")
    if month == "02" and int(year) % 4 == 0 and (int(year) % 100 or int(year) % 400 == 0):
        longest = 29
    return text.isascii() and year > "0000" and "01" <= month <= "12" and 1 <= int(day) <= longest
