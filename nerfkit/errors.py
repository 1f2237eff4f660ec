"""Errors meant for the person at the keyboard, and those that mean too little memory."""

# In what is raised by torch's allocators ("can't allocate memory", "CUDA out of memory"), by oneDNN
# ("not enough memory") and by Python where a thread's stack finds no room. Needs no torch.
NO_MEMORY = "t allocate memory", "out of memory", "not enough memory", "can't start new thread"


class NerfkitError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with code 2.

    The message names the file or argument, what was wanted, what came, and what to do. Line breaks
    become spaces, and what does not print is escaped: a message may quote a damaged file.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_shown, message)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, plain RuntimeErrors of other libraries included, says memory is used up."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else ascii(character)[1:-1]
