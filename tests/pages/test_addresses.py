"""What an address names and a page has no use for is said there; nothing is dropped in silence."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SHOWN = """
import json, sys
from tests.drawing import drawn
from pages.common.live import services

found = []
for page, query in json.loads(sys.argv[1]):
    app = drawn(page, **query)
    assert not app.exception, (page, app.exception)
    found.append([[each.value.replace("\\\\", "") for each in app.warning], dict(app.query_params)])
print(json.dumps(found))
services().runner.close()
"""
PAGES = ("noise", "dp_training", "clustering", "synthesis", "fidelity", "gradient_sharing")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """(page, what its address asks) → (warnings, address afterwards), all drawn by one process."""
    asked = [
        (page, query)
        for page in PAGES
        for query in ({"preset": "zzz"}, {"preset": "quick", "shoe": "44", "hat": "1"}, {})
    ]
    asked += [("home", {"preset": "zzz"}), ("home", {"a": "1", "b": "2"}), ("home", {})]
    place = tmp_path_factory.mktemp("addresses")

    env = os.environ | {"VEIL_HOME": str(place / "home"), "VEIL_DATA": str(place / "data")}
    found = subprocess.run(
        [sys.executable, "-c", SHOWN, json.dumps(asked)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        env=env,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    told = json.loads(found.stdout.splitlines()[-1])
    return {(page, tuple(query)): answer for (page, query), answer in zip(asked, told)}


@pytest.mark.parametrize("page", PAGES)
def test_a_preset_in_the_address_is_said_where_presets_are(page, shown):
    (warning,), address = shown[page, ("preset",)]
    assert (
        "zzz is not taken from an address; choose one here" in warning and "preset" not in address
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_name_that_is_none_of_the_page_s_is_said(page, shown):
    warnings, _ = shown[page, ("preset", "shoe", "hat")]
    assert len(warnings) == 2 and any("quick is not taken" in each for each in warnings)
    assert any("no parameter shoe" in each and "no parameter hat" in each for each in warnings)
    assert shown[page, ()][0] == []


def test_a_page_without_settings_says_it_too(shown):
    assert shown["home", ("preset",)][0] == [
        "This page has no settings: preset in its address is not used."
    ]
    assert shown["home", ("a", "b")][0] == [
        "This page has no settings: a, b in its address are not used."
    ]
    assert shown["home", ()][0] == []
