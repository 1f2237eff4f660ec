"""Ctrl-C and SIGTERM as requests: a step is finished and written before the fit ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first such signal sets; the second one of its kind acts as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        event.set()
        signal.signal(number, usual[number])

    for number in usual:
        signal.signal(number, handle)
    try:
        yield event
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
