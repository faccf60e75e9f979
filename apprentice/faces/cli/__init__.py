"""The command line. ``apprentice --help`` lists the commands; docs/CLI.md describes them all."""

from apprentice.faces.cli.commands import app, main

__all__ = ["app", "main"]
