"""Who may import whom, and how long functions are; that the web process never holds torch.

The rooms and their doors are drawn in docs/architecture.md.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Each room, and the rooms that its modules may import. Nothing points up, and nothing in a circle.
ALLOWED_IMPORTS = {
    "cache": set(),
    "core": {"cache"},
    "privacy": {"core"},
    "datasets": {"core"},
    "evaluation": set(),
    "learning": {"core", "privacy", "datasets", "evaluation"},
    "attacks": {"core", "privacy", "learning"},
    "runtime": {"cache", "core", "datasets", "learning"},
    "studies": {
        "core",
        "privacy",
        "datasets",
        "learning",
        "evaluation",
        "attacks",
        "runtime",
    },
    "command line": {"cache", "core", "datasets", "runtime", "studies"},
    "pages": {"cache", "core", "datasets", "runtime", "studies"},
}
# Of `core`, what may be used by rooms that do not run studies.
PLAIN = {"settings", "parameters", "rounding", "streams", "errors"}
TOPICS = (
    "noise",
    "clustering",
    "synthesis",
    "dp_training",
    "fidelity",
    "gradient_sharing",
)
HEAVY = {"torch", "torchvision", "opacus"}


def sources(*folders):
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Modules imported by a file; with top_only, only by statements that run when it is
    imported.
    """
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
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        for part in ("body", "orelse", "handlers"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _top(getattr(node, part, []))


def roots(modules: set[str]) -> set[str]:
    return {m.split(".")[0] for m in modules}


def room(module: str) -> str | None:
    """The room that a module stands in; None for what is not Veil's."""
    first, *rest = module.split(".")
    if first in ("cache", "pages"):
        return first
    if first != "engine" or not rest:
        return None
    return (
        rest[0] if rest[0] in ALLOWED_IMPORTS else "command line" if rest[0] == "__main__" else None
    )


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def arrows() -> dict[tuple[str, str], set[tuple[str, str]]]:
    """(room, room it imports) → (module, module) that do so."""
    found = defaultdict(set)
    for path in sources("engine", "cache", "pages"):
        for target in imports(path):
            here, there = room(dotted(path)), room(target)
            if is_module(target) and here and there and here != there:
                found[here, there].add((dotted(path), target))
    return found


def test_every_module_stands_in_a_room():
    outside = {dotted(p) for p in sources("engine") if not room(dotted(p))}
    assert outside == {"engine"}


def test_rooms_import_only_through_their_doors():
    wrong = {pair: who for pair, who in arrows().items() if pair[1] not in ALLOWED_IMPORTS[pair[0]]}
    assert not wrong


def test_there_are_no_circles_between_rooms_and_few_arrows():
    done = set()
    while len(done) < len(ALLOWED_IMPORTS):
        free = {
            name for name, doors in ALLOWED_IMPORTS.items() if name not in done and doors <= done
        }
        assert free, "a circle"
        done |= free
    assert len(arrows()) <= 40


def test_privacy_datasets_attacks_and_learning_know_no_study():
    """Of core they use settings, parameters, rounding and names of streams, and no more."""
    known = {
        (here, target)
        for (source, there), pairs in arrows().items()
        for here, target in pairs
        if there == "core" and source in ("privacy", "datasets", "attacks", "learning")
    }
    assert {t.split(".")[2] for _, t in known if t != "engine.core"} <= PLAIN


@pytest.mark.parametrize("path", sources("engine/studies"), ids=named)
def test_topics_import_each_other_through_their_front_door(path):
    here = dotted(path).split(".")
    for target in imports(path):
        there = target.split(".")
        foreign = there[:2] == ["engine", "studies"] and len(there) > 2 and there[2] in TOPICS
        if foreign and len(here) > 3 and here[2] != there[2]:
            assert not is_module(".".join(there[:4])) or len(there) == 3, (here, target)


@pytest.mark.parametrize("path", sources("pages"), ids=named)
def test_a_page_imports_no_other_page(path):
    here = dotted(path).split(".")
    for target in imports(path):
        there = target.split(".")
        if there[0] == "pages" and len(there) > 1 and is_module(target):
            assert there[1] in {"common", here[1]}, target


@pytest.mark.parametrize("path", sources("engine", "cache"), ids=named)
def test_engine_and_cache_know_nothing_of_streamlit_or_pages(path):
    assert not roots(imports(path)) & {"streamlit", "plotly", "pages", "tests"}


LIGHT = ["engine/core", "engine/runtime/runner.py", "engine/privacy", "engine/studies"]
HEAVY_BY_NATURE = {  # mathematics of one topic, imported by its studies when they run
    "engine/studies/clustering/invariant_information.py",
    "engine/studies/synthesis/bn_inversion.py",
    "engine/studies/fidelity/generator.py",
    "engine/studies/fidelity/dcgan.py",
    "engine/studies/fidelity/merf.py",
    "engine/studies/gradient_sharing/federation.py",
}


def light() -> list[Path]:
    found = [
        p
        for name in [*LIGHT, "engine/datasets"]
        for p in ([ROOT / name] if name.endswith(".py") else sources(name))
    ]
    return [p for p in found if named(p) not in HEAVY_BY_NATURE | {"engine/datasets/vision.py"}]


@pytest.mark.parametrize("path", light(), ids=named)
def test_what_the_web_process_imports_holds_no_torch_at_its_top(path):
    assert not roots(imports(path, top_only=True)) & HEAVY


@pytest.mark.parametrize("path", sources("pages"), ids=named)
def test_pages_hold_no_torch(path):
    assert not roots(imports(path)) & HEAVY


def lengths(*paths: Path) -> dict[str, int]:
    """Function → its number of lines, from `def` to the end of its body."""
    return {
        f"{path.name}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_functions_are_short():
    found = lengths(*sources("engine", "pages", "cache"))
    assert not {name: lines for name, lines in found.items() if lines > 45}
    assert sorted(found.values())[int(0.9 * len(found))] <= 25


def test_modules_of_pages_are_short():
    lines = {named(path): len(path.read_text().splitlines()) for path in sources("pages")}
    assert not {name: count for name, count in lines.items() if count > 180}


def test_lengths_are_counted_from_def_to_the_end_and_inside_classes(tmp_path):
    (tmp_path / "x.py").write_text(
        "class A:\n    @property\n    def f(self):\n        return (\n            1\n        )\n"
        "async def g():\n    def h():\n        pass\n"
    )
    assert lengths(tmp_path / "x.py") == {"x.py:3 f": 4, "x.py:7 g": 3, "x.py:8 h": 2}


def test_the_rule_is_able_to_fail(tmp_path):
    (tmp_path / "x.py").write_text(
        "import torch\nfrom engine.runtime.runner import Runner\ndef f():\n    import streamlit\n"
    )
    assert roots(imports(tmp_path / "x.py", top_only=True)) == {"torch", "engine"}
    assert "streamlit" in imports(tmp_path / "x.py")
    assert {room(m) for m in imports(tmp_path / "x.py")} == {None, "runtime"}
    assert room("engine.studies.noise.noise") == "studies" and room("engine.nowhere") is None


DRAW_ALL = """
import sys
from tests.drawing import drawn
pages = ("home", "noise", "clustering", "synthesis", "dp_training", "fidelity", "gradient_sharing")
for page in pages:
    found = drawn(page)
    assert not found.exception, (page, found.exception)
print(sorted({"torch", "torchvision", "opacus", "mlxtend"} & set(sys.modules)))
from pages.common.live import services
services().runner.close()
"""


def test_no_torch_in_the_web_process_after_every_page_was_drawn():
    found = subprocess.run(
        [sys.executable, "-c", DRAW_ALL],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
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
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert found.stdout.split()[-1:] == [unchanged], found.stdout + found.stderr
