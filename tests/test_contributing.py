"""The worked example of CONTRIBUTING.md is built from its text, run, and drawn."""

import re
import sys
import types

import mpmath
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engine.core.lab import Lab
from engine.core.study import Refused, key
from engine.datasets import registry
from tests.conftest import ROOT, finish

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def block(name: str) -> str:
    """The code of the example that is called so."""
    (found,) = re.findall(rf"```python {name}\n(.*?)```", TEXT, re.DOTALL)
    return found


@pytest.fixture
def study():
    """The example's class, from a module of its own."""
    module = types.ModuleType("mean_image_example")
    sys.modules[module.__name__] = module  # where its annotations are looked up
    exec(compile(block("study"), "CONTRIBUTING.md", "exec"), module.__dict__)
    yield module.MeanImage
    del sys.modules[module.__name__]


def delta_of(epsilon, sigma, distance):
    """The exact δ of one Gaussian release, in 50 digits (Balle and Wang 2018, theorem 8)."""
    with mpmath.workdps(50):
        half, shift = distance / (2 * mpmath.mpf(sigma)), epsilon * mpmath.mpf(sigma) / distance
        return mpmath.ncdf(half - shift) - mpmath.exp(epsilon) * mpmath.ncdf(-half - shift)


def test_the_example_runs_and_earns_its_epsilon(study, store):
    _, result = finish(Lab(store).need(study()))
    count = int((registry.load("mnist-5k").train_labels == 3).sum())
    sigma, promised = result.metrics["noise_per_pixel"] * count, result.guarantee
    assert 0.99 < promised.epsilon <= 1 + 1e-9
    assert delta_of(promised.epsilon, sigma, 8.0) <= promised.delta
    assert delta_of(promised.epsilon, 0.9 * sigma, 8.0) > promised.delta  # less noise is found


def test_two_seeds_share_no_draw_and_a_wrong_class_is_refused(study, store):
    one, other = (finish(Lab(store).need(study(seed=seed)))[1].arrays["mean"] for seed in (0, 1))
    noise = (one - other).ravel()
    corner = np.abs(noise[:28]) > 0  # the top row holds no ink: noise alone
    assert corner.all() and key(study(seed=0)) != key(study(seed=1))
    with pytest.raises(Refused, match="not a class"):
        finish(Lab(store).need(study(category=10)))


def test_its_page_is_drawn(study, tmp_path):
    page = tmp_path / "page.py"
    home = "from engine.studies.TOPIC.mean_image import"
    assert home in block("page")
    page.write_text(block("page").replace(home, "from mean_image_example import"))
    test = AppTest.from_file(str(page), default_timeout=60).run()
    assert not test.exception, test.exception
    assert test.title[0].value == "What does a class look like, on average?"
    assert any("Privacy budget" in slider.label for slider in [*test.slider, *test.select_slider])


def test_the_text_names_what_is_there():
    for path in re.findall(r"`((?:engine|pages|tests|docs)/[a-z_/]+\.py)`", TEXT):
        assert (ROOT / path).exists() or "mean_image" in path, path
