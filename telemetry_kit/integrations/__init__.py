"""One file for each third-party library, imported only where it is used."""
