"""The error that the command line shows as one sentence."""


class InputError(ValueError):
    """Wrong input from the user; the message says in one sentence what to do.

    The command line prints it without a traceback and exits with 2.
    """
