"""Errors meant for the person at the keyboard."""


class NerfkitError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with code 2.

    The message names the file or argument, what was wanted, what came, and what to do.
    """
