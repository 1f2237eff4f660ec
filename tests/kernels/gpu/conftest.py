"""Triton's interpreter takes its time: where these tests run in it, without its largest costs."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from quick_interpreter import make_quick

make_quick()
