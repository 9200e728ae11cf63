"""The command line: verbs, the commands of the original's README, ``fmrilm demo``."""

from fmrilm.cli.verbs import COMMANDS, main, options_of

__all__ = ["COMMANDS", "main", "options_of"]
