"""The sweeps of page DP training in a real browser: all of a frontier, filling while it runs,
stopped, gone on with; and what needs no training.
"""

import re

import pytest
from playwright.sync_api import expect

from cache import Store
from tests.browser import look

SMALL = "dp_training?epochs=4&batch_size=500"


def frontier(page) -> int:
    """Finished private trainings in the chart."""
    return len(look.curves(page, "frontier").get("private", []))


def test_the_page_opens_on_a_frontier_that_fills_and_answers_both_questions(visit):
    visitor = visit(SMALL)
    page = visitor.page
    look.press_run(page)
    look.until(page, lambda: frontier(page) >= 1, 90, "a first finished training")
    assert look.stop(page).count()
    look.ended(page, 120)
    look.until(page, lambda: frontier(page) == 8, 30, "all eight")
    points = look.curves(page, "frontier")["private"]
    assert [e for e, _ in points] == sorted(e for e, _ in points) and points[-1][1] > points[0][
        1
    ] > 50
    main = page.get_by_test_id("stMain")
    (
        expect(main).to_contain_text("Try next: ε ≈")
        if main.get_by_text("Try next").count()
        else expect(main).to_contain_text("smallest ε that has run")
    )
    page.get_by_label("Required accuracy, %").fill("100")
    page.get_by_label("Required accuracy, %").press("Enter")
    expect(main).to_contain_text("No training reached 100.0 %")
    page.get_by_role("button", name="Calculate σ for this ε").click()
    told = page.get_by_text(re.compile("spends ε = 2.9"))
    expect(told).to_be_visible(timeout=30_000)
    joint = float(look.metric(page, "ε (privacy loss)").inner_text())
    assert joint > points[-1][0]  # all of them together spend more than any one
    visitor.shot("dp_training_frontier")


@pytest.mark.full
def test_a_stopped_frontier_goes_on_with_what_is_missing(visit, server):
    page = visit("dp_training?epochs=30&batch_size=400&seed=5").page
    look.press_run(page)
    look.until(page, lambda: frontier(page) >= 2, 90, "two finished trainings")
    look.stopped(page)
    kept, before = frontier(page), Store(server.home / "store").stats().entries
    assert 2 <= kept < 8
    look.press_run(page)
    look.ended(page, 180)
    look.until(page, lambda: frontier(page) == 8, 30, "all eight")
    # those missing, the sweep itself, its pace
    assert Store(server.home / "store").stats().entries <= before + (9 - kept) + 3


@pytest.mark.full
@pytest.mark.parametrize(
    ("shown", "chart", "bars"),
    [("clips", "clips", 7), ("optimizers", "optimizers", 6)],
)
def test_what_a_setting_does_stands_in_bars(visit, shown, chart, bars):
    visitor = visit(f"{SMALL}&epochs=2&shown={shown}".replace("epochs=4&", ""))
    page = visitor.page
    look.press_run(page)
    look.ended(page, 150)
    drawn = page.evaluate(
        f"document.querySelector('.st-key-{chart} .js-plotly-plot').data.filter(d => d.type ==="
        " 'bar').map(d => d.y[0])"
    )
    assert len(drawn) == bars and min(drawn) > 30
    expect(look.metric(page, "ε (privacy loss)")).not_to_have_text("none")
    visitor.shot(f"dp_training_{shown}")


def test_epsilon_over_epochs_needs_no_training(visit):
    page = visit(f"{SMALL}&shown=spending").page
    look.until(page, lambda: len(look.curves(page, "spending")) >= 8, 30, "the curves")
    assert look.run(page).count() == 0
    for name, points in look.curves(page, "spending").items():
        assert not name or [e for _, e in points] == sorted(e for _, e in points)


@pytest.mark.full
def test_seeds_are_in_the_address_and_make_three_of_each(visit):
    page = visit(f"{SMALL}&seeds=3").page
    expect(page.get_by_text("three seeds", exact=True)).to_be_visible()
    look.press_run(page)
    look.until(
        page,
        lambda: re.search("of 27 trained", page.get_by_test_id("stMain").inner_text()),
        60,
        "the progress of 27",
    )
    look.stopped(page)
