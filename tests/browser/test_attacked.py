"""Audit and attack of a finished training in a real browser: what is promised beside what is found,
a bug that is simulated and found, a series.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import look

SMALL = (
    "dp_training?shown=one&epochs=6&batch_size=500&noise_multiplier=1.5&target_epsilon=none"
    "&shadows=8&canaries=600"
)


def attack(page, button: str = "Audit and attack") -> None:
    """Press it and wait for the end."""
    page.get_by_role("button", name=button).click()
    look.until(
        page,
        lambda: look.stop(page).count() > 0 or page.get_by_role("button", name=button).count() == 0,
        30,
        "the attack's beginning",
    )
    look.ended(page, 150)


@pytest.fixture
def trained(visit):
    """A visitor before a small finished training."""
    visitor = visit(SMALL)
    look.trained(visitor.page)
    look.ended(visitor.page)
    return visitor


def test_both_bounds_and_the_curve_stand_beside_what_is_promised(trained):
    page, main = trained.page, trained.page.get_by_test_id("stMain")
    if look.offered(page.get_by_role("button", name="Audit and attack")):
        attack(page)
    expect(main).to_contain_text("No violation was found")
    bounds = look.curves(page, "roc")
    assert {
        "upper bound from ε and δ",
        "upper bound for this noise",
        "private: models like this",
        "not private: models like this",
        "guessing",
    } <= set(bounds)
    promised = dict(bounds["upper bound from ε and δ"])
    tight = dict(bounds["upper bound for this noise"])
    assert all(tight[x] <= promised[x] + 1e-6 for x in tight)
    told = main.get_by_text(re.compile("Of 100 guesses whether an image was used")).inner_text()
    coin, most, private, _ = (
        float(number) for number in re.findall(r"(\d+(?:\.\d)?)(?=[;.]| ?$)", told)[-4:]
    )
    assert coin == 50 and 45 < private < most <= 100
    expect(main).not_to_contain_text("± 0.0 times")  # what nobody has measured
    for words in (
        "the noise is as large as claimed: passed",
        "no gradient exceeds the clip norm: passed",
        "batches are independent",
        "LiRA (Carlini et al. 2022) with 8 networks",
    ):
        expect(main).to_contain_text(words)
    expect(look.image(page, "Ten training images, with privacy")).to_be_visible()
    look.unfold(page, "Exact numbers and commands")
    expect(main).to_contain_text("python -m engine run audit")
    trained.shot("dp_training_attacked")


@pytest.mark.parametrize(
    "bug",
    ["half the noise", pytest.param("no clipping", marks=pytest.mark.full)],
)
def test_a_bug_is_simulated_and_found(trained, bug):
    page, main = trained.page, trained.page.get_by_test_id("stMain")
    main.get_by_text(bug, exact=True).click()
    expect(main).to_contain_text("The attack is on the training without the bug")
    if look.offered(page.get_by_role("button", name="Audit and attack")):
        attack(page)
    expect(main).to_contain_text(f"Simulated bug: {bug}. The auditor found it")
    assert "bug=" in page.url
    trained.shot(f"dp_training_bug_{bug.split()[0]}")


def test_without_noise_nothing_is_called_private(visit):
    visitor = visit(
        "dp_training?shown=one&epochs=2&batch_size=500&noise_multiplier=0"
        "&target_epsilon=none&shadows=8"
    )
    page, main = visitor.page, visitor.page.get_by_test_id("stMain")
    look.trained(page)
    expect(page.get_by_role("textbox", name="Canaries")).to_have_count(0)
    attack(page, "Attack")
    expect(main).to_contain_text("guaranteed: nothing")
    expect(main).to_contain_text("clipped, without noise")
    expect(main).to_contain_text("nothing is guaranteed here")
    assert not any("private" in name and "not private" not in name for name in look.curves(page))


@pytest.mark.full
def test_all_of_a_series_are_audited(visit):
    visitor = visit("dp_training?epochs=2&batch_size=500&canaries=200")
    page, main = visitor.page, visitor.page.get_by_test_id("stMain")
    look.press_run(page)
    look.ended(page, 150)
    attack(page, "Audit all")
    expect(main).to_contain_text("In none of 8 was a violation found")
    lowers, uppers = (
        look.curves(page, "bounds")["shown by the audit, at least"],
        look.curves(page, "bounds")["guaranteed, at most"],
    )
    assert len(lowers) == len(uppers) == 8 and all(
        lower <= upper for (_, lower), (_, upper) in zip(lowers, uppers)
    )
    page.get_by_role("combobox", name="Which training").click()
    page.get_by_role("option", name=re.compile("σ = .*audit and attack")).first.click()
    expect(page.get_by_role("textbox", name="Shadow models")).to_be_visible()
    visitor.shot("dp_training_audited")


def test_what_was_asked_and_attacked_is_a_link_and_a_download(visit):
    visitor = visit(
        "dp_training?epochs=2&batch_size=500&canaries=200&shadows=8&attacked=2&need=91.5&have=2.5"
    )
    page, main = visitor.page, visitor.page.get_by_test_id("stMain")
    if look.offered(look.run(page)):
        look.press_run(page)
    look.ended(page, 150)
    expect(page.get_by_role("textbox", name="Required accuracy, %")).to_have_value("91.5")
    expect(page.get_by_role("textbox", name="Available ε")).to_have_value("2.5")
    # the second of them is attacked
    expect(page.get_by_role("textbox", name="Shadow models")).to_have_value("8")
    if look.offered(page.get_by_role("button", name="Audit and attack")):
        attack(page)
    expect(main).to_contain_text("No violation was found")
    need = page.get_by_role("textbox", name="Required accuracy, %")
    need.fill("60")
    need.press("Enter")
    look.until(
        page,
        lambda: "need=60" in page.url and "have=2.5" in page.url and "attacked=2" in page.url,
        20,
        "a new address",
    )
    look.unfold(page, "How this was made")
    expect(main).to_contain_text("python -m engine series dp_training frontier")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all numbers").click()
    whole = json.loads(Path(download.value.path()).read_text())
    told = whole["more"]
    audit, attacker = told["the audit"], told["the attack"]
    assert (
        audit["study"] == "audit"
        and {check["kept"] for check in audit["facts"]["checks"]} == {True}
        and 0 <= audit["metrics"]["lower_bound"] <= audit["metrics"]["upper_bound"]
    )
    assert (
        attacker["study"] == "membership"
        and attacker["params"]["shadows"] == 8
        and 0.4 < attacker["metrics"]["area_like_it"] < 0.6
    )
    assert sum(each["study"] == "dp_training" for each in told.values()) == 9
    assert whole["study"] == "ensemble" and whole["guarantee"]["epsilon"] > max(
        each["guarantee"]["epsilon"] or 0 for each in told.values()
    )
    assert all(
        each["curves"]["test_accuracy"] for each in told.values() if each["study"] == "dp_training"
    ) and len(attacker["arrays"]["roc"]) == len(attacker["arrays"]["false_alarms"])
    field = page.get_by_role("textbox", name="Available ε")
    field.fill("0,5")
    field.press("Enter")
    look.until(page, lambda: "have=0.5" in page.url, 20, "half in the address")
    field.fill("x")
    field.press("Enter")
    expect(
        look.notice(page, "have: x is not allowed; allowed: a number from 0.01 to 1000")
    ).to_be_visible()
    expect(field).to_have_value("0.5")


def test_without_its_twin_is_a_link_too(visit):
    visitor = visit("dp_training?shown=one&epochs=1&compare=no")
    page = visitor.page
    toggle = page.get_by_role("switch", name="Compare with the non-private baseline")
    expect(toggle).not_to_be_checked()
    page.get_by_test_id("stMain").get_by_text("Compare with the non-private baseline").click()
    expect(toggle).to_be_checked()
    look.until(page, lambda: "compare" not in page.url, 20, "the default in the address")


def test_a_wrong_number_of_canaries_is_refused_at_its_field(trained):
    page = trained.page
    for typed in ("5", "many"):
        field = page.get_by_role("textbox", name="Canaries")
        field.fill(typed)
        field.press("Enter")
        expect(look.notice(page, f"{typed} is not allowed")).to_be_visible()
        expect(field).to_have_value("600")
