"""The README's first Python block runs as it is."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_first_python_block_of_the_readme_plays_an_episode_to_its_win(capsys):
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    names = {}
    exec(compile(block[1], str(README), "exec"), names)
    assert names["info"]["won"] is True
    assert capsys.readouterr().out.startswith("> ")
