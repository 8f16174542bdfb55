"""The page DP training in a real browser, over real workers: run, watch, reload, share, stop,
kill.
"""

import re
import time

import pytest
from playwright.sync_api import expect

from cache import Store
from tests.browser import look

# a few seconds, once: all tests that only need a result share it
SMALL = "shown=one&epochs=2&batch_size=500"
LONG = "shown=one&network=cnn&epochs=150&batch_size=200"  # minutes: to be stopped


def stored(server) -> int:
    return Store(server.home / "store").stats().entries


# --- from empty to done ---------------------------------------------------------------------------


def test_the_empty_state_says_what_will_come(visit):
    visitor = visit("dp_training?shown=one")
    page = visitor.page
    expect(page.get_by_text("Results appear here")).to_be_visible()
    expect(page.get_by_text("Training images", exact=True)).to_be_visible()
    expect(look.image(page, "Some training images")).to_be_visible()
    expect(page.get_by_text(re.compile("Takes (about|under)|It takes|it takes"))).to_be_visible()
    expect(look.run(page)).to_be_enabled()
    assert look.points(page) == 0 and look.stop(page).count() == 0
    visitor.shot("dp_training_empty")


def test_a_run_grows_its_curve_and_spends_epsilon_until_all_is_told(visit):
    # never run, not even by this test's first try
    seed = f"&seed={time.time_ns() % 10**9}"
    visitor = visit(
        f"dp_training?shown=one&network=cnn&epochs=16&batch_size=200&target_epsilon=8{seed}"
    )
    page = visitor.page
    look.press_run(page)
    expect(page.get_by_test_id("stProgress").first).to_be_visible()
    expect(look.run(page)).to_have_count(0)
    look.begun(page)
    few, spent = look.points(page), epsilon(page)
    look.until(page, lambda: look.points(page) > few, 60, "a longer curve")
    look.until(page, lambda: epsilon(page) > spent, 60, "more ε spent")
    visitor.shot("dp_training_running")
    look.finished(page)
    assert look.points(page) == 16 and len(look.curves(page)["test images, not private"]) == 16
    # per cent: ten classes, so guessing gives 10
    assert look.curves(page)[look.PRIVATE][-1][1] > 60
    assert epsilon(page) <= 8
    visitor.shot("dp_training_done")


def epsilon(page) -> float:
    return float(look.metric(page, "ε spent").inner_text().removeprefix("≤ ").replace(",", ""))


def test_a_result_has_its_guarantee_odds_classes_and_examples(visit):
    visitor = visit(f"dp_training?{SMALL}")
    page = visitor.page
    look.trained(page)
    for words in ("one training image with its label", "Poisson", "blanked", "A simulation"):
        expect(page.get_by_test_id("stMain")).to_contain_text(words)
    figures = look.image(page, "100 small figures").get_attribute("alt")
    n = int(re.search(r"(\d+) of them", figures).group(1))
    assert 50 < n < 100
    expect(page.get_by_text(f"{n} times in 100")).to_be_visible()
    assert {len(points) for points in look.curves(page, "classes").values()} == {10}
    page.get_by_role("tab", name="Examples").click()
    expect(page.locator("img[alt='A test image classified correctly']").last).to_be_visible()
    assert page.locator("img[alt='A test image classified correctly']").count() == 10
    assert page.locator("img[alt='A test image misclassified']").count() == 10
    visitor.shot("dp_training_examples")


def test_every_tab_opens(visit):
    visitor = visit(f"dp_training?{SMALL}")
    look.trained(visitor.page)
    for tab in ("Loss", "Budget", "Report 3", "Formulas"):
        visitor.page.get_by_role("tab", name=tab).click()
        panel = visitor.page.get_by_role("tabpanel").filter(visible=True)
        expect(panel.locator(".js-plotly-plot, p").first).to_be_visible()
        visitor.shot(f"dp_training_{tab.lower().replace(' ', '_')}")


# --- cached, shared, changed ----------------------------------------------------------------------


def test_a_reload_shows_the_stored_result_at_once_and_a_second_browser_the_same(visit):
    page = visit(f"dp_training?{SMALL}&seed=1").page
    look.trained(page)
    before, made = look.curves(page), made_by(page)
    page.reload()
    look.finished(page)
    assert look.run(page).count() == 0 and look.stop(page).count() == 0
    assert look.curves(page) == before
    other = visit(f"dp_training?{SMALL}&seed=1").page
    look.finished(other)
    assert look.curves(other) == before and made_by(other) == made
    third = visit(f"dp_training?{SMALL}").page
    look.trained(third)
    assert look.curves(third) != before  # another seed, another training


def made_by(page) -> str:
    """Seconds, device and time of the training: no two trainings share them."""
    look.unfold(page, "How this was made")
    return page.get_by_text("Computed in").inner_text()


def test_another_dial_is_another_state_and_back_is_cached(visit):
    page = visit(f"dp_training?{SMALL}").page
    look.trained(page)
    before = look.curves(page)
    moved = look.move(page, "Privacy budget ε", "ArrowLeft", 2)
    expect(look.run(page)).to_be_visible()
    expect(page.get_by_role("heading", name="What is guaranteed")).to_have_count(0)
    expect(page).to_have_url(re.compile(f"target_epsilon={moved}(&|$)"))
    look.move(page, "Privacy budget ε", "ArrowRight", 2)
    look.finished(page)
    assert look.curves(page) == before


def test_the_noise_can_be_on_the_dial_instead_of_the_budget(visit):
    page = visit(f"dp_training?{SMALL}&noise_multiplier=1.3").page
    expect(look.slider(page, "Noise multiplier σ")).to_be_visible()
    expect(look.slider(page, "Privacy budget ε")).to_have_count(0)
    look.trained(page)
    expect(page.get_by_test_id("stMain")).to_contain_text("Gaussian noise of 1.3 times")
    look.unfold(page, "More settings")
    page.get_by_text("the privacy budget ε", exact=True).click()
    expect(look.slider(page, "Privacy budget ε")).to_be_visible()
    expect(page).not_to_have_url(re.compile("noise_multiplier"))


# --- who runs, and who stops ----------------------------------------------------------------------


def test_stop_stops_within_two_seconds_and_run_is_there_again(visit, server, record_property):
    visitor = visit(f"dp_training?{LONG}&seed=11")
    page = visitor.page
    look.press_run(page)
    look.begun(page)
    kept = stored(server)
    seconds = look.stopped(page)
    record_property("stop_seconds", round(seconds, 2))
    print(f"stopped after {seconds:.2f} s")
    expect(look.run(page)).to_be_enabled()
    assert stored(server) == kept  # nothing half-done is kept
    visitor.shot("dp_training_stopped")


def test_two_browsers_that_press_run_follow_one_training(visit):
    """One worker computes one training at a time, so two pages with a growing curve at once follow
    the same one.
    """
    link = f"dp_training?{LONG}&seed=12"
    first, second = visit(link).page, visit(link).page
    look.run(first).click(no_wait_after=True)
    look.run(second).click(no_wait_after=True)
    look.until(second, lambda: min(look.points(first), look.points(second)) >= 2, 90, "both curves")
    assert look.stop(first).is_visible() and look.stop(second).is_visible()
    a, b = look.curves(first)[look.PRIVATE], look.curves(second)[look.PRIVATE]
    shared = min(len(a), len(b))
    assert a[:shared] == b[:shared] and abs(len(a) - len(b)) <= 5
    expect(second.get_by_text(re.compile("^Private: waiting for its turn"))).to_have_count(0)
    look.stopped(first)
    expect(look.notice(second, "Stopped")).to_be_visible()  # a run belongs to all who follow it


@pytest.mark.full
def test_a_training_goes_on_while_its_visitor_looks_at_another_page(visit):
    page = visit(f"dp_training?{LONG}&seed=13").page
    look.press_run(page)
    look.begun(page)
    left = look.points(page)
    page.get_by_role("link", name="Noise").click()
    expect(page.get_by_role("heading", name="Can anyone still be recognised?")).to_be_visible()
    expect(look.stop(page)).to_have_count(0)
    page.wait_for_timeout(1500)
    page.get_by_role("link", name="DP training").click()
    expect(look.stop(page)).to_be_visible()
    look.until(page, lambda: look.points(page) > left, 60, "a curve that has grown meanwhile")
    look.stopped(page)


def test_a_killed_worker_is_told_and_run_works_again(visit, server, record_property):
    visitor = visit(f"dp_training?{LONG}&seed=14")
    page = visitor.page
    # the twin would take the place of the dead
    page.get_by_text("Compare with the non-private baseline").click()
    look.press_run(page)
    look.begun(page)
    for worker in server.workers():
        worker.kill()
    seconds = look.until(
        page, lambda: look.notice(page, "worker process died").count(), 30, "the message"
    )
    record_property("killed_worker_seconds", round(seconds, 2))
    print(f"told after {seconds:.2f} s")
    visitor.shot("dp_training_failed")
    look.press_run(page)
    look.begun(page)
    look.stopped(page)


# --- what cannot run ------------------------------------------------------------------------------


def test_a_data_set_that_is_not_here_is_offered_with_the_way_to_get_it(visit):
    visitor = visit("dp_training?dataset=mnist")
    expect(look.notice(visitor.page, "fetch mnist")).to_be_visible()
    expect(look.run(visitor.page)).to_have_count(0)
    visitor.shot("dp_training_missing")


def test_a_preset_whose_data_set_is_not_here_says_so_too(visit):
    page = visit("dp_training").page
    page.get_by_text("MNIST (download needed)", exact=True).click()
    expect(look.notice(page, "fetch mnist")).to_be_visible()


def test_a_batch_larger_than_the_data_is_refused_in_words(visit):
    visitor = visit("dp_training?batch_size=16000&epochs=1")
    page = visitor.page
    if look.offered(look.run(page)):  # told before the run, or by it
        look.run(page).click()
    expect(look.notice(page, "Batch size: 16000 is not allowed")).to_be_visible(timeout=60_000)
    visitor.shot("dp_training_refused")


def test_a_wrong_value_in_the_url_is_told_and_nothing_is_submitted(visit):
    """Other values: tests/pages/test_addresses.py."""
    visitor = visit("dp_training?target_epsilon=nan")
    page = visitor.page
    expect(look.notice(page, "Privacy budget ε: nan is not allowed")).to_be_visible()
    expect(look.stop(page)).to_have_count(0)
    expect(page.get_by_test_id("stProgress")).to_have_count(0)
    expect(page.get_by_text("Traceback")).to_have_count(0)
    visitor.shot("dp_training_wrong")
