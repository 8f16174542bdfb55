"""The page Noise in a real browser: the dial, the URL, a visitor's own image."""

import io
import re
import struct
import zlib
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from cache import Store
from tests.browser import look

DIAL, NOISED = "Privacy budget ε for the image", "The same image under noise"


def query(page) -> dict[str, list[str]]:
    return parse_qs(urlparse(page.url).query)


def exact_field(page):
    return page.get_by_role("textbox", name="Exact value").first


def sigma(page) -> float:
    return float(look.metric(page, "σ of each pixel").inner_text())


# --- the dial -------------------------------------------------------------------------------------


def test_the_dial_moves_sigma_image_and_url_by_keyboard(visit):
    visitor = visit("noise")
    page = visitor.page
    before, strong = look.source(page, NOISED), sigma(page)
    visitor.shot("noise")
    value = look.move(page, DIAL, "ArrowLeft", 12)
    look.changed(page, NOISED, before)
    look.until(page, lambda: sigma(page) > 2 * strong, 10, "more noise")
    look.until(page, lambda: query(page).get("epsilon") == [value.replace(",", "")], 10, "the URL")
    expect(exact_field(page)).to_have_value(value.replace(",", ""))


def test_the_exact_field_takes_a_number_between_the_marks_and_a_reload_keeps_it(visit):
    page = visit("noise").page
    exact_field(page).fill("3.7")
    exact_field(page).press("Enter")
    look.until(page, lambda: query(page).get("epsilon") == ["3.7"], 10, "the URL")
    expect(page.get_by_text("What leaves the phone at ε = 3.7")).to_be_visible()
    seen = sigma(page)
    page.reload()
    expect(exact_field(page)).to_have_value("3.7")
    expect(page.get_by_text("What leaves the phone at ε = 3.7")).to_be_visible()
    assert sigma(page) == seen


def test_a_link_shows_the_same_in_another_browser(visit):
    link = "noise?epsilon=420&category=7&index=2&seed=5&label_epsilon=1"
    first, second = visit(link).page, visit(link).page
    # named by the hash of its pixels
    assert look.source(first, NOISED) == look.source(second, NOISED)
    assert sigma(first) == sigma(second)
    assert look.source(visit("noise").page, NOISED) != look.source(first, NOISED)


def test_a_preset_sets_everything_and_the_textbook_formula_shows_what_it_really_gives(visit):
    visitor = visit("noise")
    visitor.page.get_by_test_id("stButtonGroup").get_by_role("radio", name="As in report 1").or_(
        visitor.page.get_by_role("button", name="As in report 1")
    ).first.click()
    warning = look.notice(visitor.page, "is only nominal")
    expect(warning).to_contain_text("ε = 1,925 is only nominal")
    really = float(
        re.search(r"the actual ε of its σ = \S+ is ([\d,]+),", warning.inner_text())[1].replace(
            ",", ""
        )
    )
    assert really > 20 * 1925  # REPORTS.md: about 75,000 at ε = 2000
    expect(visitor.page.get_by_text("together:")).to_contain_text(f"{really + 75:,.0f}"[:3])
    visitor.shot("noise_textbook")


# --- wrong values ---------------------------------------------------------------------------------

# What the browser itself may make something of; others: tests/pages/test_addresses.py.
WRONG = {
    "null byte": ("epsilon=%00", "Privacy budget ε for the image: � is not allowed"),
    "markup": ("calibration=<b>x</b>", "Noise formula: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_in_the_url_is_told_at_its_widget_and_the_page_works(visit, server, case):
    text, words = WRONG[case]
    stored = Store(server.home / "store").stats().entries
    visitor = visit(f"noise?{text}")
    page = visitor.page
    expect(look.notice(page, words)).to_be_visible()
    assert len(look.notice(page, words).inner_text()) < 400
    assert sigma(page) == pytest.approx(0.02456, abs=1e-5)  # the default's
    before = look.source(page, NOISED)
    look.move(page, DIAL, "ArrowLeft", 3)
    look.changed(page, NOISED, before)
    expect(page.get_by_test_id("stAlert").filter(has_text="Traceback")).to_have_count(0)
    # no job but Home's card: a result, its speed
    assert Store(server.home / "store").stats().entries <= stored + 4


def test_the_message_stands_beside_its_widget(visit):
    visitor = visit("noise?epsilon=nan&seed=-3")
    page = visitor.page
    field, message = (
        exact_field(page).bounding_box(),
        look.notice(page, "Privacy budget ε for the image: nan").bounding_box(),
    )
    assert 0 < message["y"] - field["y"] < 150
    seed, told = (
        page.get_by_role("textbox", name="Seed").bounding_box(),
        look.notice(page, "Seed: -3").bounding_box(),
    )
    assert 0 < told["y"] - seed["y"] < 150 and abs(told["x"] - seed["x"]) < 50
    visitor.shot("noise_wrong")


def test_a_wrong_number_typed_is_refused_and_the_image_stays(visit):
    page = visit("noise").page
    before = look.source(page, NOISED)
    exact_field(page).fill("1e308")
    exact_field(page).press("Enter")
    expect(
        look.notice(page, "is not allowed; allowed: a number from 0.1 to 200000")
    ).to_be_visible()
    assert look.source(page, NOISED) == before and "epsilon" not in query(page)
    exact_field(page).fill("12")
    exact_field(page).press("Enter")
    expect(look.notice(page, "is not allowed")).to_have_count(0)


def test_a_data_set_that_is_not_here_is_offered(visit):
    visitor = visit("noise?dataset=cifar10")
    expect(look.notice(visitor.page, "fetch cifar10")).to_be_visible()
    visitor.shot("noise_missing")


# --- an image of one's own -----------------------------------------------------------------------


def image(kind: str = "PNG", shape=(90, 120, 3)) -> bytes:
    """A real image: colours that run across it."""
    ramp = np.linspace(0, 255, np.prod(shape)).reshape(shape).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, kind)
    return file.getvalue()


def huge_header() -> bytes:
    """A PNG of 60000 × 60000 pixels in a few bytes: 10 GB for whoever decodes it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def own(page, kind: str):
    """Choose where an image of one's own comes from."""
    look.unfold(page, "Choose an image")
    page.get_by_role("radio", name=kind).or_(
        page.get_by_role("button", name=kind, exact=True)
    ).first.click()


def upload(page, raw: bytes, name: str = "mine.png") -> None:
    own(page, "upload")
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": raw}
    )


def test_an_uploaded_image_drowns_too_and_is_never_stored(visit, server):
    visitor = visit("noise?epsilon=20000")
    page, raw = visitor.page, image()
    before = look.source(page, NOISED)
    upload(page, raw)
    look.changed(page, NOISED, before)
    page.get_by_text("How this was made").click()
    expect(page.get_by_text("Your own image was not stored")).to_be_visible()
    visitor.shot("noise_upload")
    assert not [p for p in server.home.rglob("*") if p.is_file() and raw in p.read_bytes()]
    page.reload()
    expect(look.image(page, NOISED)).to_have_attribute("src", before)


REFUSED = {
    "broken": (image()[:200], "mine.png", "cut off or damaged"),
    "no image": (b"hello " * 100, "mine.png", "not a PNG or JPEG"),
    "a GIF": (image("GIF", (40, 40)), "mine.png", "not a PNG or JPEG"),
    "huge": (huge_header(), "mine.png", "too many pixels"),
}


def test_a_bad_upload_is_refused_with_the_reason_and_the_page_goes_on(visit):
    visitor = visit("noise")
    page = visitor.page
    for raw, name, reason in REFUSED.values():
        upload(page, raw, name)
        expect(look.notice(page, reason)).to_be_visible()
        visitor.shot("noise_refused")
        page.get_by_role("button", name=f"Remove {name}").click()
        expect(look.notice(page, reason)).to_have_count(0)
        expect(look.image(page, NOISED)).to_be_visible()
    upload(page, image() + b"\0" * 6_000_000)  # by the uploader itself
    expect(page.get_by_test_id("stFileUploader")).to_contain_text("must be 5")
    expect(look.image(page, NOISED)).to_be_visible()


def test_the_webcam_takes_an_image(visit):
    visitor = visit("noise?epsilon=20000")
    page = visitor.page
    before = look.source(page, NOISED)
    own(page, "webcam")
    page.wait_for_function(
        "(document.querySelector('[data-testid=stCameraInput] video') || {}).readyState >= 2"
    )
    take = page.get_by_role("button", name="Take Photo")
    # a busy machine's camera may not have an image yet when it is asked for one
    for _ in range(3):
        take.click()
        page.wait_for_timeout(3000)
        if not take.count():
            break
    look.changed(page, NOISED, before)
    visitor.shot("noise_webcam")


# --- networks that learn from such images -------------------------------------------------------

SMALL = "noise?epochs=2&width=0.125&batch_size=400"


def train(page, label: str = "Train") -> None:
    page.get_by_role("button", name=label).first.click()
    expect(look.stop(page)).to_be_visible()
    look.ended(page, 180)


def test_networks_learn_live_and_the_walk_ends_at_the_published_pipeline(visit):
    visitor = visit(SMALL)
    page = visitor.page
    page.get_by_role("button", name="Train").first.click()
    expect(page.get_by_text("of 6 done")).to_be_visible()
    look.until(page, lambda: any(look.curves(page, "arms-shallow").values()), 90, "a first point")
    look.ended(page, 180)
    for network in ("shallow", "deep"):
        curves = look.curves(page, f"arms-{network}")
        assert all(
            len(curves[arm]) == 2
            for arm in (
                "raw images",
                "noised images, true labels",
                "noised images, K-means labels",
            )
        )
    visitor.shot("noise_trained")
    page.get_by_text("Cost of privacy, cost of errors").first.click()
    train(page, "Run these too")  # those that the arms have not trained already
    look.until(page, lambda: "→" in page.locator(".st-key-walk").inner_text(), 20, "the walk")
    visitor.shot("noise_walk")
    page.reload()
    expect(page.get_by_role("button", name="Train")).to_have_count(0)  # all is stored


@pytest.mark.full
def test_the_survivors_are_sorted_by_the_budget_that_they_need(visit):
    visitor = visit(SMALL)
    page = visitor.page
    page.get_by_text("Which images survive?").first.click()
    train(page, "Run these too")
    expect(page.get_by_text("never: ").first).to_be_visible()
    visitor.shot("noise_survivors")


@pytest.mark.full
def test_the_sweep_fills_while_it_runs_and_can_be_stopped(visit):
    visitor = visit(SMALL + "&seed=3")
    page = visitor.page
    page.get_by_text("Does depth amplify noise?").first.click()
    page.get_by_role("button", name="Run these too").first.click()
    filled = (
        "() => [...document.querySelectorAll('.st-key-sweep .js-plotly-plot')].flatMap(c =>"
        " c.data).flatMap(d => d.z.flat()).filter(z => z !== null).length"
    )
    look.until(page, lambda: page.evaluate(filled) >= 2, 120, "two cells")
    visitor.shot("noise_sweep")
    look.stop(page).click()
    expect(look.stop(page)).to_have_count(0, timeout=60_000)
    assert page.evaluate(filled) >= 2  # nothing that was computed is lost
