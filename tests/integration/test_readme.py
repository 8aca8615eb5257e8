"""The examples of the README and the docs run, and what the docs list is true."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bgmm_jd

ROOT = Path(__file__).parents[2]
EXAMPLES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [
    *EXAMPLES,
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
]
PACKAGE = ROOT / "bgmm_jd"


ANOTHER_PROCESS = "<!-- another process -->\n"


def examples(page: Path) -> list[tuple[str, str]]:
    """Return the examples of a page, each with a mark where a process of its own runs it."""
    pattern = rf"^({ANOTHER_PROCESS})?```python\n(.*?)^```$"
    return re.findall(pattern, page.read_text(), flags=re.S | re.M)


# arviz 0.23 gives this notice at its first import of a day.
@pytest.mark.filterwarnings(r"ignore:\s*ArviZ is undergoing a major refactor:FutureWarning")
@pytest.mark.parametrize("page", [p for p in EXAMPLES if examples(p)], ids=lambda page: page.stem)
def test_all_examples_of_a_page_run_in_one_namespace(page, tmp_path, monkeypatch):
    """Except those that a comment assigns to another process, in the same folder."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for mark, block in examples(page):
        if mark:
            run_in_another_process(block)
        else:
            exec(compile(block, str(page), "exec"), namespace)


def run_in_another_process(block: str) -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", block],
        env=os.environ | {"PYTHONPATH": paths, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_readme_loads_a_saved_posterior_in_another_process():
    marked = [block for mark, block in examples(ROOT / "README.md") if mark]
    assert ["bgmm_jd.load(" in block for block in marked] == [True]


def test_readme_has_each_command_that_ci_reads_once():
    text = (ROOT / "README.md").read_text()
    for mark in ("demonstration", "tests"):
        assert text.count(f"<!-- command: {mark} -->\n```bash\n") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_of_a_page_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert os.path.exists(page.parent / target), target
    for path in re.findall(r"`((?:bgmm_jd|tests|benchmarks|docs)/[\w./]+)[` ]", text):
        assert (ROOT / path).exists(), path


def test_guide_installs_each_dependency_beside_tensorflow_cpu():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", text)[0] for text in project["dependencies"]}
    text = (ROOT / "docs" / "guide.md").read_text()
    command = re.search(r"^pip install (tensorflow-cpu .*?)\npip", text, flags=re.S | re.M)[1]
    assert set(re.findall(r"[\w-]+", command)) == needed - {"tensorflow"} | {"tensorflow-cpu"}


def test_api_page_lists_the_public_names_in_their_order():
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "api.md").read_text(), flags=re.M)
    assert listed == bgmm_jd.__all__


def test_contributing_lists_each_subpackage():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    listed = re.findall(r"^\| `bgmm_jd/(\w+)/` \|", text, flags=re.M)
    assert sorted(listed) == sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py"))


def test_design_names_functions_that_exist_on_the_path_of_a_row():
    text = (ROOT / "docs" / "design.md").read_text()
    steps = re.findall(r"^\| (\d+) \| `([\w/.]+)` \| ([^|]+) \|", text, flags=re.M)
    assert [int(number) for number, _, _ in steps] == list(range(1, 11))
    for _, file, names in steps:
        source = (ROOT / file).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(def|class) {name}\b", source, flags=re.M), (file, name)


def test_decisions_index_lists_each_record():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(p.name for p in folder.glob("[0-9]*.md"))


def test_citation_has_the_version_and_the_licence_of_the_package():
    cited = dict(re.findall(r"^(\w+): (.+)$", (ROOT / "CITATION.cff").read_text(), flags=re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["version"] == bgmm_jd.__version__
    assert cited["license"] == project["license"]


def test_index_of_tutorials_lists_each():
    folder = ROOT / "docs" / "tutorials"
    listed = re.findall(r"^(\w+)$", (folder / "index.md").read_text(), flags=re.M)
    assert sorted(listed) == sorted(p.stem for p in folder.glob("*.md") if p.stem != "index")


def test_pre_commit_has_the_versions_of_the_lint_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    for pin in project["optional-dependencies"]["lint"]:
        assert f'"{pin}"' in hooks, pin
