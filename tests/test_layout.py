"""Who may import whom, read from the sources; and that the web process never holds torch, after
every page was drawn.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# What pages may use of the engine: studies, the runner, and the light modules that only describe or
# look up.
LIGHT = {
    "engine.studies",
    "engine.runtime.runner",
    "engine.core.study",
    "engine.core.parameters",
    "engine.datasets.registry",
    "engine.datasets.uploads",
    "engine.core.lab",
    "engine.datasets.imaging",
    "engine.core.rounding",
    "engine",
}
HEAVY = {"torch", "torchvision", "opacus"}


def sources(*folders):
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Modules imported by a file; with top_only, only by statements that run when it is imported."""
    tree = ast.parse(path.read_text())
    nodes = _top(tree.body) if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _top(body):
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _top(getattr(node, part, []))


def roots(modules: set[str]) -> set[str]:
    return {m.split(".")[0] for m in modules}


def engine_files(modules: set[str]) -> set[str]:
    """The engine modules, as files, among imported names."""
    return {m for m in modules if m.split(".")[0] == "engine" and _is_module(m)}


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


@pytest.mark.parametrize("path", sources("engine", "cache"), ids=lambda p: str(p.relative_to(ROOT)))
def test_engine_and_cache_know_nothing_of_streamlit_or_pages(path):
    assert not roots(imports(path)) & {"streamlit", "plotly", "pages", "tests"}


@pytest.mark.parametrize("path", sources("cache"), ids=lambda p: p.name)
def test_cache_knows_nothing_of_ours(path):
    assert not roots(imports(path)) & {"engine", "pages"}


@pytest.mark.parametrize("path", sources("pages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_use_only_studies_the_runner_and_light_modules(path):
    used = {m for m in engine_files(imports(path)) if not m.startswith("engine.studies")}
    assert used <= LIGHT and not roots(imports(path)) & HEAVY


@pytest.mark.parametrize(
    "path",
    [p for p in sources("engine") if p.parent.name != "studies" and p.name != "__main__.py"],
    ids=lambda p: p.name,
)
def test_the_rest_of_the_engine_knows_no_study_and_no_runner(path):
    used = engine_files(imports(path))
    assert not {m for m in used if m.startswith("engine.studies") or m == "engine.runtime.runner"}


@pytest.mark.parametrize(
    "path",
    sources("engine/studies")
    + [ROOT / "engine" / n for n in ("study.py", "lab.py", "runner.py", "data.py", "privacy.py")],
    ids=lambda p: p.name,
)
def test_what_the_web_process_imports_holds_no_torch_at_its_top(path):
    assert not roots(imports(path, top_only=True)) & HEAVY


def test_the_rule_is_able_to_fail(tmp_path):
    (tmp_path / "x.py").write_text(
        "import torch\nfrom engine.runtime.runner import Runner\ndef f():\n    import streamlit\n"
    )
    assert roots(imports(tmp_path / "x.py", top_only=True)) == {"torch", "engine"}
    assert "streamlit" in imports(tmp_path / "x.py") and "engine.runtime.runner" in imports(
        tmp_path / "x.py"
    )


DRAW_ALL = """
import sys
from streamlit.testing.v1 import AppTest
for page in ("home", "noise", "clustering", "synthesis", "dp_training", "fidelity", "gradient_sharing"):
    found = AppTest.from_file("pages/menu.py", default_timeout=60).switch_page(f"{page}.py").run()
    assert not found.exception, (page, found.exception)
print(sorted({"torch", "torchvision", "opacus", "mlxtend"} & set(sys.modules)))
from pages.parts.live import services
services().runner.close()
"""


def test_no_torch_in_the_web_process_after_every_page_was_drawn():
    found = subprocess.run(
        [sys.executable, "-c", DRAW_ALL], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert found.stdout.strip().splitlines()[-1:] == ["[]"], found.stdout + found.stderr


SYS_PATH = """
import sys
from streamlit.runtime.scriptrunner.exec_code import modified_sys_path
if "with app" in sys.argv:
    import app
before = list(sys.path)
with modified_sys_path("pages/menu.py"):
    print(sys.path == before)
"""


def test_no_visitor_changes_the_import_path_of_another():
    """While one thread changes sys.path, what another imports is sometimes not found: seen with 30
    sessions.
    """
    for arguments, unchanged in ((["with app"], "True"), ([], "False")):
        found = subprocess.run(
            [sys.executable, "-c", SYS_PATH, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert found.stdout.split()[-1:] == [unchanged], found.stdout + found.stderr
