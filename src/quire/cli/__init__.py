"""The command line: one file per group of commands.

main, app      the entry point and the commands in their order
options        options that several commands share, completion of module names
screen         tables, JSON, progress, errors
opening        from --project to settings, registry and project
routing        `quire route`; testing: `quire test`
speed          how fast this machine compiles, for estimates
verdict        when two answers count as the same
reference      writes docs/cli.md and docs/settings.md

Starting must be quick: nothing here imports PyTorch or transformers before a command that computes needs them.
"""

from quire.cli.main import main

__all__ = ["main"]
