"""Home in a real browser: the live example, the cards, the menu."""

from playwright.sync_api import expect

from tests.browser import look

DIAL = "Privacy budget ε"
THREE = "A handwritten three"


def test_the_live_examples_dial_changes_image_and_sentence(visit):
    page = visit().page
    before, sentence = (
        look.source(page, THREE),
        page.get_by_text("Guessing between two").inner_text(),
    )
    assert look.move(page, DIAL, "ArrowRight", 8) == "ε = 1"
    look.changed(page, THREE, before)
    expect(page.get_by_text("Guessing between two")).not_to_have_text(sentence)


def test_the_card_trains_a_network_by_itself_and_shows_what_it_says(visit):
    visitor = visit()
    card = visitor.page.locator("img[alt^='Forty new digits']")
    expect(card).to_be_visible(timeout=90_000)
    expect(visitor.page.get_by_text("new digits classified correctly")).to_be_visible(
        timeout=60_000
    )
    expect(visitor.page.get_by_test_id("stProgress")).to_have_count(0)
    visitor.shot("home")


def test_the_second_visitor_finds_the_card_trained(visit):
    page = visit().page
    expect(page.get_by_text("new digits classified correctly")).to_be_visible(timeout=90_000)
    again = visit().page
    assert (
        again.get_by_text("new digits classified correctly").inner_text()
        == page.get_by_text("new digits classified correctly").inner_text()
    )


def test_a_card_leads_to_its_page(visit):
    page = visit().page
    page.get_by_role("link", name="Add noise to an image").click()
    expect(page.get_by_role("heading", name="Can anyone still be recognised?")).to_be_visible()
    page.get_by_role("link", name="Veil").click()
    page.get_by_role("link", name="Train with differential privacy").click()
    expect(page.get_by_role("heading", name="Can a machine learn from you")).to_be_visible()


def test_the_very_first_page_of_a_fresh_server_has_the_top_menu(start, visit):
    """Streamlit shows the folder pages/ as a sidebar to whoever comes first, unless app.py prevents
    it.
    """
    fresh = start()
    page = visit("noise", at=fresh).page
    links = page.get_by_test_id("stTopNav").get_by_role("link")
    # each behind the name of its icon
    expect(links).to_contain_text(["Veil", "Noise", "DP training"])
    expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)
    expect(page.get_by_test_id("stSidebar")).to_have_count(0)


def test_a_script_that_fails_in_the_browser_is_noticed(visit):
    """What every visitor is asked on leaving (no uncaught error) is able to say yes."""
    visitor = visit()
    visitor.page.evaluate("setTimeout(() => { throw new Error('planted') })")
    look.until(visitor.page, lambda: visitor.errors, 5, "the planted error")
    assert "planted" in visitor.errors.pop()
