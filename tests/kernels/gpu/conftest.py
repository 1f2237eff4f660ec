"""Triton's interpreter takes its time: where these tests run in it, without its largest costs."""

import importlib.util

if importlib.util.find_spec("triton") is not None:
    from quick_interpreter import make_quick

    make_quick()
