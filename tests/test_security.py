"""The package runs no code from files, and uses no network and no other programs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bgmm_jd

PACKAGE = Path(bgmm_jd.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules that reach the network, start programs, or make objects from bytes as those ask for.
FORBIDDEN_MODULES = {
    *("socket", "socketserver", "ssl", "http", "urllib", "ftplib", "smtplib", "telnetlib"),
    *("requests", "httpx", "aiohttp", "urllib3", "webbrowser", "xmlrpc", "asyncio"),
    *("subprocess", "pty", "multiprocessing"),
    *("marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "code", "runpy"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "breakpoint", "input"),
    *("os.system", "os.popen", "os.execv", "os.spawnv", "os.startfile"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "pd.read_pickle", "pd.eval"),
    *("pandas.read_pickle", "pandas.eval", "frame.eval", "frame.query"),
}
# `_reduced` tells users' pickles what a posterior is made of, and tries whether a prior has a name.
MAY_IMPORT_PICKLE = {"storage/pickling.py"}


def findings(source: str, name: str = "file.py") -> set[str]:
    """Return what a source has that is forbidden."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        found |= {m for m in imported(node) if m.split(".")[0] in FORBIDDEN_MODULES}
        if name not in MAY_IMPORT_PICKLE:
            found |= {m for m in imported(node) if m == "pickle"}
        if isinstance(node, ast.Call):
            found |= forbidden_call(node)
    return found


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield node.module or ""


def forbidden_call(node: ast.Call) -> set[str]:
    called = ast.unparse(node.func)
    if called in FORBIDDEN_CALLS:
        return {called}
    allows = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("allow_pickle")
    is_safe = allows == "False" or called not in ("np.load", "numpy.load")
    return set() if is_safe and allows in (None, "False") else {"allow_pickle"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_runs_no_code_from_files_and_uses_no_network(path):
    assert findings(path.read_text(), str(path.relative_to(PACKAGE))) == set()


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "import urllib.request as r",
        "from http.client import HTTPConnection",
        "def f():\n    import subprocess",
        "import pickle",
        "pickle.loads(data)",
        "eval('1')",
        "exec(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file, allow_pickle=flag)",
        "os.system('ls')",
    ],
)
def test_what_is_forbidden_is_found(source):
    assert findings(source) != set()


@pytest.mark.parametrize(
    "source", ["np.load(path, allow_pickle=False)", "re.compile('a')", "from . import code"]
)
def test_what_is_harmless_is_not_found(source):
    assert findings(source) == set()
