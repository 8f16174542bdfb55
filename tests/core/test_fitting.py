"""Defaults and presets fit whatever data set is chosen: what nobody has typed is never refused."""

import numpy as np
import pytest
from PIL import Image

from engine.core.study import Refused
from engine.datasets import registry, source
from engine.studies import STUDIES
from engine.studies.image_study import fitted

ALLOWED = {"dataset", "network"}  # these images themselves, or a network that they do not suit


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """VEIL_DATA with folders of few images, of many classes, and of several hundred images."""
    place, rng = tmp_path_factory.mktemp("fitting"), np.random.default_rng(0)
    for name, (classes, each) in SIZES.items():
        for label in range(classes):
            inside = place / "folders" / name / f"class{label:03}"
            inside.mkdir(parents=True)
            for number in range(each):
                small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
                small.resize((64, 64), Image.NEAREST).save(inside / f"{number}.png")
    return place


SIZES = {"two": (2, 2), "three": (2, 3), "eight": (2, 8), "classes": (60, 3), "hundreds": (2, 300)}
CASES = [(study, preset) for study in STUDIES.values() for preset in study.PRESETS]


def checked(study, shown):
    """What a study refuses about a data set, as before a run."""
    if hasattr(study, "pick"):
        study.pick(shown)
    return study.check(shown)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("study", "preset"), CASES, ids=lambda case: getattr(case, "NAME", case))
def test_no_default_of_any_preset_is_refused(study, preset, name, folders, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(folders))
    chosen, said = fitted(study.preset(preset, dataset=f"folder:{name}"))
    shown = registry.preview(f"folder:{name}")
    try:
        checked(chosen, shown)
    except Refused as refused:
        assert refused.field in ALLOWED, (refused, said)
    except source.Missing as missing:
        assert isinstance(missing, source.MissingFile)  # weights that somebody must bring


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("kmeans_labels", "clusters", 4),
        ("gradient_sharing", "clients", 20),
        ("fidelity", "examples", 50),
        ("student", "images", 40),
    ],
)
def test_what_is_typed_is_refused_all_the_same(name, field, value, folders, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(folders))
    where = "classes" if name == "student" else "two"
    study = STUDIES[name].preset("tiny", dataset=f"folder:{where}", **{field: value})
    chosen, _ = fitted(study, given=(field,))
    assert chosen.values()[field] == value
    with pytest.raises(Refused, match=f"{field}: {value} is not allowed"):
        checked(chosen, registry.preview(f"folder:{where}"))


def test_series_of_fitted_studies_are_not_refused_either(folders, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(folders))
    shown = registry.preview("folder:hundreds")
    for study in STUDIES.values():
        base, _ = fitted(study.preset("quick", dataset="folder:hundreds"))
        for series in study.SERIES:
            for words, member in getattr(base, series)().items():
                try:
                    checked(member, shown)
                except Refused as refused:
                    assert refused.field in ALLOWED, (study.NAME, series, words, refused)
