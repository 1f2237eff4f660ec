"""Errors meant for the person at the keyboard."""


class NerfkitError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with code 2.

    The message names the file or argument, what was wanted, what came, and what to do. Characters
    that do not print are escaped: a name out of a damaged file must not break the line.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))
