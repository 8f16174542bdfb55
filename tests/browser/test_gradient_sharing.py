"""The page Gradient sharing in a real browser: clients learn together live, rounds are dragged,
an image is reconstructed from an upload, and a visitor's own is never stored.
"""

import io
import time

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser import look

SMALL = "gradient_sharing?clients=4&images_per_client=50&rounds=3&initial_epochs=3"
ATTACK = "&attack_steps=60&tries=1"


def seeded(query: str) -> str:
    """Never run, not even by this test's first try."""
    return f"{query}&seed={time.time_ns() % 10**9}"


def rebuild(page, seconds: float = 120) -> None:
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    expect(page.get_by_text("The attempt that fits best")).to_be_visible(timeout=1000 * seconds)
    look.ended(page)


def test_clients_learn_together_and_their_rounds_are_dragged(visit):
    visitor = visit(seeded(SMALL))
    page = visitor.page
    expect(page.get_by_text("4 phones (clients), each with its own images")).to_be_visible()
    visitor.shot("gradient_sharing_empty")
    look.press_run(page)
    expect(page.get_by_role("heading", name="What is guaranteed").first).to_be_visible(
        timeout=120_000
    )
    look.ended(page)
    curves = look.curves(page, "rounds-arms")
    assert set(curves) == {
        "no update",
        "each client alone",
        "1 %",
        "10 %",
        "20 %",
        "100 %",
        "all images in one place",
    }
    assert len(curves["10 %"]) == 4 and curves["no update"][0][1] == curves["10 %"][0][1]
    expect(page.get_by_text("Round 3 of 3: 4 upload")).to_be_visible()
    rounds = page.get_by_role("slider", name="Round", exact=True)
    rounds.focus()
    rounds.press("Home")
    expect(page.get_by_text("Round 1 of 3: 4 upload")).to_be_visible()
    expect(look.metric(page, "ε (privacy loss)")).to_have_text("none")
    bytes_ = look.curves(page, "bytes")
    assert (
        bytes_["1 %"][-1][0] < bytes_["10 %"][-1][0] < bytes_["100 %"][-1][0]
        and bytes_["the images themselves"][0][0] == 50 * 784
    )
    look.unfold(page, "All numbers")
    visitor.shot("gradient_sharing")


def test_an_image_is_rebuilt_and_its_film_is_dragged(visit):
    visitor = visit(seeded(SMALL + ATTACK))
    page = visitor.page
    rebuild(page)
    film = page.get_by_role("slider", name="Attacker's steps")
    shown = page.locator("img[alt='The reconstructed image']")
    last = shown.get_attribute("src")
    film.focus()
    film.press("Home")
    expect(shown).not_to_have_attribute("src", last)
    expect(page.get_by_test_id("stMain")).to_contain_text("after 1 step")
    assert len(look.curves(page, "rebuilding")) == 1
    page.get_by_role("tab", name="Formulas").click()
    expect(page.get_by_test_id("stMain")).to_contain_text("Geiping")
    visitor.shot("gradient_sharing_attack")


def test_noise_shows_its_epsilon_at_once_and_is_promised(visit):
    page = visit(seeded(SMALL + "&noise_multiplier=4&client_sampling_rate=0.5")).page
    main = page.get_by_test_id("stMain")
    expect(main).to_contain_text("for all images of one client, one of 4")
    before = main.get_by_text("for all images of one client").inner_text()
    look.move(page, "Noise multiplier σ", "ArrowRight", 2)
    look.until(
        page,
        lambda: main.get_by_text("for all images of one client").first.inner_text() != before,
        20,
        "another ε",
    )
    look.press_run(page)
    expect(page.get_by_role("heading", name="What is guaranteed").first).to_be_visible(
        timeout=120_000
    )
    look.ended(page)
    assert 0 < float(look.metric(page, "ε (privacy loss)").inner_text()) < 20
    expect(main).to_contain_text("anyone who gets all the models")


@pytest.mark.full
def test_a_broken_client_is_refused_and_it_is_said(visit):
    page = visit(seeded(SMALL + "&faulty=huge&order=turns")).page
    look.press_run(page)
    expect(look.notice(page, "3 of 12 uploads came from the broken client")).to_be_visible(
        timeout=120_000
    )
    expect(page.get_by_text("Round 3 of 3: 3 upload")).to_be_visible()


def test_a_visitors_own_image_is_attacked_and_never_stored(visit, start):
    server = start()
    page = visit(SMALL + ATTACK, at=server).page
    page.get_by_text("your own, never stored").click()
    expect(look.notice(page, "Choose an image")).to_be_visible()
    drawing = np.full((80, 80), 250, np.uint8)
    drawing[20:60, 36:46] = 10
    buffer = io.BytesIO()
    Image.fromarray(drawing).save(buffer, "PNG")
    page.locator("input[type=file]").set_input_files(
        {"name": "one.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    rebuild(page)
    expect(page.get_by_test_id("stMain")).to_contain_text("Your own image was not stored")
    assert "image=" not in page.url
    stored = [p for p in (server.home / "store").rglob("*") if p.is_file()]
    assert stored and not any(b'"inversion"' in p.read_bytes() for p in stored)


@pytest.mark.full
def test_two_panels_run_at_the_same_time(visit):
    page = visit(seeded(SMALL.replace("rounds=3", "rounds=40") + ATTACK)).page
    look.press_run(page)
    page.get_by_role("button", name="Reconstruct", exact=True).click()
    expect(page.locator(".st-key-stop-attack button")).to_be_visible()
    expect(look.stop(page)).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    look.stop(page).click()
    expect(page.get_by_text("The attempt that fits best")).to_be_visible(timeout=120_000)
    look.ended(page)
