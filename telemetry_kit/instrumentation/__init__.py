"""How the code of a host is measured."""
