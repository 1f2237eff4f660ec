"""The `nerfkit` command: find the sub-command, parse its arguments, report errors in one line.

Each sub-command is a function (or a dataclass of arguments) named in COMMANDS and imported only
when it is asked for, so that `nerfkit --help` does not wait for torch.

Exit codes: 0 done; 2 wrong arguments or something the user can mend (one line on standard error);
130 interrupted from the keyboard. Any other exception keeps its traceback: it is a bug.
"""

import contextlib
import difflib
import functools
import importlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

from nerfkit import __version__
from nerfkit.errors import NerfkitError, is_out_of_memory

# name -> (module:function, what it does)
COMMANDS = {
    "demo": ("nerfkit.demo:demo", "built-in scene: fit, scores, fly-through video"),
    "prepare": ("nerfkit.cli.prepare:prepare", "camera poses of photos or a video"),
    "fit": ("nerfkit.cli.fit:fit", "fit a scene to a set of posed images"),
    "bake": ("nerfkit.cli.bake:bake", "a fitted scene as one compact file without a network"),
    "eval": ("nerfkit.cli.evaluate:evaluate", "measure a fitted scene against views held out"),
    "render": (
        "nerfkit.cli.render:render",
        "render a camera path to a video or a folder of frames",
    ),
    "view": ("nerfkit.cli.view:view", "a fitted scene in the browser, with a camera path editor"),
    "export": ("nerfkit.cli.export:export", "mesh, point cloud or octree for other programs"),
    "sr": ("nerfkit.cli.sr:sr", "super-resolution of images and videos: apply, train"),
    "octree": ("nerfkit.cli.octree:octree", "the occupied voxels: statistics, picture, file"),
    "blur-kernel": (
        "nerfkit.cli.blur_kernel:blur_kernel",
        "by what kernel images, or the renders of a run, are blurred",
    ),
    "bench": (
        "nerfkit.cli.bench:bench",
        "speed of kernels, fits, frames and more, beside the machine's limits; comparisons",
    ),
    "info": ("nerfkit.cli.info:info", "versions, devices and the active backend of every op"),
}
SHARED = ("fit", "render")  # what several processes can do together


def usage() -> str:
    """The text of `nerfkit --help`."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: nerfkit COMMAND [ARGUMENTS]",
            "",
            "Fit radiance fields to image sets, render fly-throughs, measure speed.",
            "",
            "commands:",
            *rows,
            "",
            "nerfkit COMMAND --help   arguments of one command",
            "nerfkit --version        version of nerfkit",
        ]
    )


@contextlib.contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """Let Ctrl-C end the process at once: for imports, which may swallow KeyboardInterrupt."""
    usual = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or usual is not signal.default_int_handler:  # ignored, or another program's own
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _bind(command: str, arguments: Sequence[str]) -> Callable[[], None]:
    """The sub-command with its arguments, not called yet.

    Raises:
        NerfkitError: for arguments that tyro does not take, in one line where it draws a box.
        SystemExit: after help that was asked for.
    """
    target, summary = COMMANDS[command]
    module, name = target.split(":")
    with ended_by_interrupts():
        import tyro

        function = getattr(importlib.import_module(module), name)

    @functools.wraps(function)
    def bind(*args: object, **kwargs: object) -> Callable[[], None]:
        return functools.partial(function, *args, **kwargs)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                bind,
                prog=f"nerfkit {command}",
                description=summary[0].upper() + summary[1:] + ".",
                args=arguments,
                # `--flag` alone, not a `--flag/--no-flag` pair; the documented order is kept
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise NerfkitError(
            f"{_unboxed(complaint.getvalue())}; nerfkit {command} --help explains the arguments"
        ) from None


def _unboxed(text: str) -> str:
    """What tyro's message says between its title and the next rule, without frame and colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    framed = [line for line in lines if line.startswith("│")]
    inside = [line.strip("│ ") for line in framed or lines]
    rules = [i for i, line in enumerate(inside) if line and not line.strip("─-")]
    first = (
        0 if framed or not rules else rules.pop(0) + 1
    )  # the title is part of the frame, or above
    return " ".join(inside[first : rules[0]] if rules else inside[first:]).strip(" .")


def _fail(message: str) -> int:
    print("nerfkit: error:", " ".join(message.split()), file=sys.stderr)
    return 2


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (default: those of this process); returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"nerfkit {__version__}")
        return 0
    command, *rest = arguments
    if command not in SHARED and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        alone = f"nerfkit {command} runs in one process: start it without torchrun"
        return _fail(alone) if os.environ.get("RANK") == "0" else 2
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(COMMANDS)}"
        return _fail(f"unknown command {command!r}; {hint}")
    try:
        _bind(command, rest)()
        sys.stdout.flush()
    except NerfkitError as error:
        return _fail(str(error))
    except BrokenPipeError:  # `nerfkit info | head`: nobody is reading any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _fail(_describe(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail("not enough memory: fewer --samples, or a larger --downscale, take less")
    except KeyboardInterrupt as interrupt:
        kept = f": {interrupt}" if str(interrupt) else ""
        print(f"nerfkit: interrupted{kept}", file=sys.stderr)
        return 130
    except SystemExit as leaving:  # tyro has printed the help that was asked for
        return int(leaving.code or 0)
    return 0
