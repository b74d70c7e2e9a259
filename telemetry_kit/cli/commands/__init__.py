"""One module for each command, with one function `run()`."""
