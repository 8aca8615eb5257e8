"""The examples of the README and the docs, run as their readers would run them."""

import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.S | re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    """All blocks of a page in one namespace, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for block in examples(page):
        exec(compile(block, str(page), "exec"), namespace)


def test_readme_has_its_commands():
    """What .ci/run reads out of the README is there, once."""
    text = (ROOT / "README.md").read_text()
    for mark in ("demonstration", "tests"):
        assert text.count(f"<!-- command: {mark} -->\n```bash\n") == 1


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert os.path.exists(page.parent / target), (page.name, target)
