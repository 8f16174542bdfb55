"""The page Synthesis in a real browser: images out of noise, a film without the server, students,
and what is given away.
"""

from playwright.sync_api import expect

from tests.browser import look

SMALL = (
    "synthesis?epochs=1&batch_size=200&images=40&synthesis_batch_size=20&steps=6&snapshots=2,6"
    "&student_epochs=2"
)


def film(page):
    """The image of the film; its slider is a range input of the browser's own."""
    return page.locator("img[alt^='A row of images for each class, from noise']")


def test_images_come_about_live_and_the_film_is_dragged_without_the_server(visit):
    visitor = visit(SMALL + "&seed=5")  # not what another test has made already
    page = visitor.page
    expect(page.get_by_text("Real images, from which the teacher learns.")).to_be_visible()
    visitor.shot("synthesis_empty")
    look.press_run(page)
    look.until(page, lambda: film(page).count(), 120, "the film")
    look.ended(page, 180)
    curves = look.curves(page, "students")
    assert [len(points) for name, points in curves.items() if name and "labels" in name] == [2, 2]
    last = film(page).get_attribute("src")
    asked = []
    page.on("websocket", lambda socket: asked.append(socket))  # noqa: PLW0108  needs a function
    page.on("request", lambda request: asked.append(request.url))
    slider = page.get_by_role("slider", name="Steps of the synthesis")
    slider.focus()
    slider.press("Home")
    expect(film(page)).not_to_have_attribute("src", last)
    expect(page.get_by_text("after 0 steps")).to_be_visible()
    slider.press("End")
    expect(film(page)).to_have_attribute("src", last)
    assert not asked, asked  # no frame was fetched
    page.get_by_role("button", name="Play").click()
    expect(film(page)).to_have_attribute("src", last)
    visitor.shot("synthesis")


def test_what_is_given_away_stands_beside_its_controls_and_nothing_is_promised(visit):
    page = visit(SMALL).page
    if look.run(page).count():
        look.press_run(page)
        look.ended(page, 180)
    before = look.source(page, "Pairs: a synthetic image")
    page.get_by_text("the teacher's features", exact=True).first.click()
    look.changed(page, "Pairs: a synthetic image", before)
    assert "space=features" in page.url
    expect(look.metric(page, "ε (privacy loss)")).to_have_text("none")
    expect(page.get_by_test_id("stMain")).to_contain_text("look odd is no protection")


def test_a_private_teacher_has_a_dial_and_keeps_its_budget(visit):
    page = visit(SMALL + "&private=true&target_epsilon=4").page
    expect(look.slider(page, "Privacy budget ε")).to_be_visible()
    look.press_run(page)
    look.ended(page, 180)
    shown = float(look.metric(page, "ε (privacy loss)").inner_text())
    assert 3.9 < shown <= 4.0
    expect(page.get_by_test_id("stMain")).to_contain_text(
        "post-processing, which costs no further privacy"
    )


def test_values_that_only_fit_together_are_taken_together_and_a_mended_one_is_forgiven(visit):
    # never run, so that no result has a warning; six steps alone would not reach the usual
    # snapshots
    page = visit(SMALL + "&seed=77").page
    look.unfold(page, "More settings")
    expect(page.get_by_role("textbox", name="Snapshots after steps")).to_have_value("2,6")
    expect(page.get_by_role("textbox", name="Steps", exact=True)).to_have_value("6")
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
    field = page.get_by_role("textbox", name="Images to generate")
    # what was typed last is answered
    for value, told in (("7", "each needs an image"), ("abc", "abc is not allowed")):
        field.fill(value)
        field.press("Enter")
        expect(look.notice(page, told)).to_be_visible()
        expect(look.notice(page, "Nothing can run with these settings")).to_be_visible()
    field.fill("40")
    field.press("Enter")
    expect(page.get_by_test_id("stAlert")).to_have_count(0)
