"""`nerfkit view` with what it cannot show; no browser needed."""

import sys

from nerfkit import cli


def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys):
    def fails(*arguments):
        assert cli.main(["view", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "holds no run" in fails(tmp_path)
    assert "--port: want 1 to 65535" in fails(tmp_path, "--port", "0")
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "pip install 'nerfkit[view]'" in fails(tmp_path)
