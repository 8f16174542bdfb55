"""What pages read from results by name is named by the engine.

A renamed metric would otherwise fail only where a visitor opens the part of the page that shows it.
"""

import ast
import re

from tests.conftest import ROOT


def texts(tree: ast.AST) -> set[str]:
    """All strings of a module; "\\n" stands for what an f-string inserts."""
    found = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    joined = [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr)]
    found |= {
        "".join(v.value if isinstance(v, ast.Constant) else "\n" for v in n.values) for n in joined
    }
    return {text for text in found if isinstance(text, str)}


def read(tree: ast.AST) -> set[str]:
    """The names by which a module reads values: x["name"] and x.get("name")."""
    taken = [n.slice for n in ast.walk(tree) if isinstance(n, ast.Subscript)]
    taken += [
        n.args[0]
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "get"
        if n.args
    ]
    return {n.value for n in taken if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def unknown(names: set[str], known: set[str]) -> set[str]:
    """The names that are neither known, nor numbers, nor known f-strings with such parts."""
    shapes = [re.escape(text).replace("\\\n", "(.+)") for text in known if 1 < len(text) < 40]
    made = [re.compile(shape) for shape in shapes if "(.+)" in shape]

    def stands(name: str) -> bool:
        if name in known or re.fullmatch(r"[\d.]+", name):
            return True
        matches = (shape.fullmatch(name) for shape in made)
        return any(m is not None and all(map(stands, m.groups())) for m in matches)

    return {name for name in names if not stands(name)}


def written(tree: ast.AST) -> set[str]:
    """The keys that a module writes itself: of dictionaries, and of x["key"] = …."""
    found = [k for n in ast.walk(tree) if isinstance(n, ast.Dict) for k in n.keys]
    made = [n.key for n in ast.walk(tree) if isinstance(n, ast.DictComp)]
    found += [part for key in made for part in ast.walk(key)]
    found += [
        n.slice
        for n in ast.walk(tree)
        if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)
    ]
    return {k.value for k in found if isinstance(k, ast.Constant) and isinstance(k.value, str)}


def modules(folder: str) -> list[ast.AST]:
    return [ast.parse(path.read_text()) for path in sorted((ROOT / folder).rglob("*.py"))]


def test_pages_read_only_what_the_engine_names():
    known = set().union(*map(texts, modules("engine")))
    names = set().union(*map(read, modules("pages")))
    own = set().union(*map(written, modules("pages")))
    assert len(names) > 100 and unknown(names, known | own) == set()
    # a metric under its former name is found out
    assert unknown(names | {"images_on_phones"}, known | own) == {"images_on_phones"}
