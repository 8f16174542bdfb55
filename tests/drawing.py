"""Pages as a test opens them, without a browser."""

from streamlit.testing.v1 import AppTest

from tests.conftest import ROOT


def opened(topic: str, seconds: float = 120, **query) -> AppTest:
    """A page at an address, not run yet.

    Home is run first: before that, Streamlit takes a page's file name for its address, and shows
    Home in its place.
    """
    test = AppTest.from_file(str(ROOT / "pages/menu.py"), default_timeout=seconds).run()
    if topic != "home":
        test.switch_page(f"{topic}/page.py")
    for name, value in query.items():
        test.query_params[name] = str(value)
    return test


def drawn(topic: str, seconds: float = 120, **query) -> AppTest:
    """The same after it has run once. It is the page that was asked for."""
    test = opened(topic, seconds, **query).run()
    home = "See what privacy costs" in " ".join(each.value for each in test.title)
    assert home == (topic == "home") or test.exception, test.title
    return test
