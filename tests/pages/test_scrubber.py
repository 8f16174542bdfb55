"""The frames of a film, as the scrubber shows them."""

from pages.common.scrubber import film


def test_a_film_is_the_frames_in_the_order_of_their_steps():
    images = {"film_000120": b"last", "gallery": b"no frame", "film_000000": b"first"}
    frames = film(images | {"film_000001": b"second"})
    assert list(frames.items()) == [
        ("after 0 steps", b"first"),
        ("after 1 step", b"second"),
        ("after 120 steps", b"last"),
    ]
    assert film({"gallery": b"no frame"}) == {}
