"""Messages for the person at the keyboard: one line each, whatever names they quote."""

import pytest

from nerfkit.errors import NerfkitError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("0006\npng", "0006 png"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("end\u2028", "end "),
        ("Übung 5 Grad\u00e9 µm.png", "Übung 5 Grad\u00e9 µm.png"),
    ],
)
def test_it_is_one_line_that_prints(name, shown):
    assert str(NerfkitError(f"{name}: not there")) == f"{shown}: not there"
