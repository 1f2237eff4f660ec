"""Errors meant for the person at the keyboard."""


class NerfkitError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with code 2.

    The message names the file or argument, what was wanted, what came, and what to do. Line breaks
    become spaces, and what does not print is escaped: a message may quote a damaged file.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_shown, message)))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else ascii(character)[1:-1]
