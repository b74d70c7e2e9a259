"""The promises, checked: what a sceptical user runs against the files and the program."""
