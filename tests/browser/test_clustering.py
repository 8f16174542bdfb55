"""The page Clustering in a real browser: clusters that form, curves that grow, what is charged."""

from playwright.sync_api import expect

from tests.browser import look

SMALL = (
    "clustering?images=raw&epochs=12&batch_size=200&views=2&sub_heads=2&over_clusters=20"
    "&learning_rate=0.003&starts=1"
)


def errors(page) -> int:
    """Epochs that stand in the chart of matched errors."""
    return max(map(len, look.curves(page, "errors").values()), default=0)


def test_clusters_form_and_errors_fall_live_and_a_second_visitor_finds_them(visit):
    visitor = visit(SMALL + "&seed=5")
    page = visitor.page
    # an empty state that shows what will be sorted
    expect(page.get_by_text("Some images, not noised.")).to_be_visible()
    visitor.shot("clustering_empty")
    look.press_run(page)
    look.until(page, lambda: errors(page) > 0, 120, "a first epoch")
    expect(look.image(page, "A row for each cluster")).to_be_visible()
    look.ended(page)
    assert errors(page) >= 10
    first, last = [
        sum(points[i][1] for points in look.curves(page, "errors").values()) for i in (0, -1)
    ]
    assert last < first
    matched = (
        page.get_by_test_id("stMetric")
        .filter(has_text="Accuracy (matched)")
        .get_by_test_id("stMetricValue")
    )
    expect(matched).to_have_count(2)
    expect(page.get_by_test_id("stMain")).to_contain_text(
        "Clusters of images that were not noised are not protected"
    )
    visitor.shot("clustering")
    again = visit(SMALL + "&seed=5").page
    expect(
        again.get_by_test_id("stMetric")
        .filter(has_text="Accuracy (matched)")
        .get_by_test_id("stMetricValue")
    ).to_have_count(2)
    expect(look.run(again)).to_have_count(0)


TABS = {
    "Releases and ε": "releases",
    "Report 1": "Green, Hodson and Hanoian",
    "Formulas": "Matching",
}


def test_every_tab_opens(visit):
    page = visit(SMALL + "&seed=5").page
    if look.offered(look.run(page)):
        look.press_run(page)
        look.ended(page)
    for tab, words in TABS.items():
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel").filter(visible=True)).to_contain_text(words)


def test_a_wrong_value_is_told_and_the_page_stands(visit):
    """Other values: tests/pages/test_addresses.py."""
    page = visit("clustering?clusters=9999").page
    expect(look.notice(page, "Clusters: 9999 is not allowed")).to_be_visible()
    expect(page.get_by_role("heading", name="Can a machine cluster noised images")).to_be_visible()
