"""What a visitor sees and does, in words: the eyes and hands of the browser tests."""

import time

from playwright.sync_api import Locator, Page, expect

CURVES = """key => { const chart = document.querySelector(`.st-key-${key} .js-plotly-plot`);
                     return chart && chart.data ? Object.fromEntries(chart.data.map(
                         d => [d.name, Array.from(d.x || [], (x, i) => [x, d.y[i]])])) : {} }"""
PRIVATE = "test images, private"
# Streamlit's app says that the script has ended some 60 ms before it has drawn the last of it (seen
# here), and after a click says so for 200 ms before the script begins: so a page is ready when
# nothing has come or gone for a while.
QUIET = """milliseconds => {
    if (!window.lastChange) {
        window.lastChange = {at: performance.now()};
        const watched = {subtree: true, childList: true, characterData: true, attributes: true,
                         attributeFilter: ["data-test-script-state"]};
        new MutationObserver(() => { window.lastChange.at = performance.now(); })
            .observe(document.body, watched);
    }
    return document.querySelector("[data-testid=stApp][data-test-script-state=notRunning]")
        && performance.now() - window.lastChange.at > milliseconds; }"""
# An expander slides open, and a click meanwhile lands beside what it was meant for.
OPENED = (
    "box => Promise.all(box.getAnimations({subtree: true}).map(animation =>"
    " animation.finished.catch(() => null)))"
)


def slider(page: Page, title: str) -> Locator:
    """The handle of a slider, as the keyboard finds it."""
    return page.locator(f"input[type=range][aria-label='{title}']")


def move(page: Page, title: str, key: str, times: int = 1) -> str:
    """Move a slider by keyboard; returns the value that it then names."""
    handle = slider(page, title)
    handle.focus()
    for _ in range(times):
        handle.press(key)
    return handle.get_attribute("aria-valuetext")


def metric(page: Page, label: str) -> Locator:
    """The value under a label."""
    return (
        page.get_by_test_id("stMetric").filter(has_text=label).get_by_test_id("stMetricValue").first
    )


def image(page: Page, alt: str) -> Locator:
    """The first image whose alternative text contains these words."""
    return page.locator(f"[data-testid=stMain] img[alt*='{alt}']").first


def source(page: Page, alt: str) -> str:
    """Where an image's pixels come from: another address for other pixels (it is their hash)."""
    return image(page, alt).get_attribute("src")


def changed(page: Page, alt: str, before: str) -> None:
    """Wait until an image has other pixels."""
    expect(image(page, alt)).not_to_have_attribute("src", before)


def curves(page: Page, key: str = "accuracy") -> dict[str, list]:
    """The curves of the chart as the browser holds them: name → [[x, y], ...]."""
    return page.evaluate(CURVES, key)


def points(page: Page) -> int:
    """Epochs of the private network that stand in the chart; of the clipped one where there is no
    noise.
    """
    found = curves(page)
    return len(found.get(PRIVATE, found.get("test images, no noise", [])))


def until(page: Page, condition, seconds: float, what: str) -> float:
    """Wait for a condition; returns the seconds that took.

    (The page's own clock goes on meanwhile.)

    No test is about seconds: on a busy machine it waits longer, and only a hang fails.
    """
    begun, seconds = time.monotonic(), max(seconds, 120)
    while not condition():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds} s"
        page.wait_for_timeout(50)
    return time.monotonic() - begun


def settled(page: Page, quiet: int = 400) -> None:
    """Wait until the page's script has ended and nothing has come or gone for so many
    milliseconds.
    """
    page.wait_for_function(QUIET, arg=quiet)


def notice(page: Page, words: str) -> Locator:
    """A message box with these words in it."""
    return page.get_by_test_id("stAlert").filter(has_text=words).first


def unfold(page: Page, title: str) -> None:
    """Open an expander if it is closed."""
    box = (
        page.get_by_test_id("stExpander").filter(has=page.locator("summary", has_text=title)).first
    )
    if box.locator("details").get_attribute("open") is None:
        box.locator("summary").click()
        expect(box.locator("details")).to_have_attribute("open", "")
        box.evaluate(OPENED)


# --- a training -----------------------------------------------------------------------------------


def run(page: Page) -> Locator:
    return page.get_by_role("button", name="Run", exact=False).filter(has_text="Run").first


def offered(button: Locator) -> bool:
    """Whether the page has this button, once all is drawn."""
    settled(button.page)
    return button.count() > 0


def stop(page: Page) -> Locator:
    """Our own button: Streamlit's toolbar has another one of that name while a script runs."""
    return page.locator(".st-key-stop button")


def press_run(page: Page) -> None:
    run(page).click()
    expect(stop(page)).to_be_visible()


def begun(page: Page, seconds: float = 60) -> None:
    """Wait for the first point of the private curve."""
    until(page, lambda: points(page) > 0, seconds, "a first point")


def finished(page: Page, seconds: float = 120) -> None:
    """Wait for the private network's figures, and for the twin's too: then nothing ticks any
    more.
    """
    expect(page.get_by_role("heading", name="What is guaranteed").first).to_be_visible(
        timeout=1000 * seconds
    )
    expect(stop(page)).to_have_count(0, timeout=1000 * seconds)
    settled(page)
    # plotly draws after the script has ended
    until(page, lambda: points(page) > 0, 20, "the drawn chart")


def ended(page: Page, seconds: float = 150) -> None:
    """Wait until nothing runs any more and all is drawn."""
    expect(stop(page)).to_have_count(0, timeout=1000 * seconds)
    settled(page)


def trained(page: Page) -> None:
    """Have a result on the page, from the cache or from a run."""
    if offered(run(page)):
        press_run(page)
    finished(page)


def stopped(page: Page, seconds: float = 30) -> float:
    """Press Stop and wait for the word; returns the seconds that took."""
    stop(page).click()
    return until(
        page,
        lambda: notice(page, "Stopped").count() and not stop(page).count(),
        seconds,
        "stopping",
    )
