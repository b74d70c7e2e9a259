"""The hook that PyInstaller runs for each program that imports this library."""
