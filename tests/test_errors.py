"""Messages for the person at the keyboard: one line each, whatever names they quote."""

import pytest

from nerfkit.errors import NerfkitError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("0006\npng", "0006\\npng"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("end\u2028", "end\\u2028"),
        ("Übung 5 Grad\u00e9 µm.png", "Übung 5 Grad\u00e9 µm.png"),
    ],
)
def test_what_does_not_print_is_escaped(name, shown):
    assert str(NerfkitError(f"{name}: not there")) == f"{shown}: not there"
