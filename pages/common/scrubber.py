"""A film with a slider; all frames are in the browser, so no frame waits for the server."""

from __future__ import annotations

import base64

import streamlit as st

from pages.common import sentences

_HTML = """
<div class="film"><img alt="" /></div>
<div class="row"><button type="button" aria-label="Play"></button><input type="range"
  min="0" step="1" /><output></output></div>
"""
_CSS = """
.film img { width: 100%; image-rendering: pixelated; display: block; border-radius: 4px; }
.row { display: flex; gap: 0.75rem; align-items: center; margin-top: 0.5rem;
  font-family: var(--st-font); color: var(--st-text-color); }
input { flex: 1; accent-color: var(--st-primary-color); }
output { min-width: 4.5rem; text-align: right; font-size: 0.9rem; }
button { border: 1px solid var(--st-border-color); background: transparent; color: inherit;
  border-radius: 0.5rem; padding: 0.2rem 0.7rem; cursor: pointer; }
"""
_JS = """
export default function ({ data, parentElement }) {
  const [image, range, output, button] =
    ["img", "input", "output", "button"].map((name) => parentElement.querySelector(name));
  const show = (i) => {
    image.src = "data:image/png;base64," + data.frames[i];
    output.value = data.names[i];
    range.value = i;
  };
  let playing = null;
  const stop = () => { clearInterval(playing); playing = null; button.textContent = "▶"; };
  const play = () => {
    let i = +range.value >= data.frames.length - 1 ? -1 : +range.value;
    button.textContent = "❚❚";
    playing = setInterval(() => { show(++i); if (i >= data.frames.length - 1) stop(); }, 180);
  };
  image.alt = data.alt;
  range.max = data.frames.length - 1;
  range.setAttribute("aria-label", data.label);
  range.oninput = () => { stop(); show(+range.value); };
  button.onclick = () => (playing ? stop() : play());
  stop();
  show(data.frames.length - 1);
  return stop;
}
"""
_film = st.components.v2.component("veil_film", html=_HTML, css=_CSS, js=_JS)


def film(images: dict[str, bytes]) -> dict[str, bytes]:
    """The frames of a film among a result's images: title → PNG, in the order of the steps.

    A frame is named film_STEP, with as many digits in each name.
    """
    return {
        sentences.after(int(name.removeprefix("film_"))): images[name]
        for name in sorted(images)
        if name.startswith("film_")
    }


def scrubber(frames: dict[str, bytes], label: str, alt: str, key: str) -> None:
    """Show frames (title → PNG bytes, in order), starting at the last one.

    label: the slider's label for screen readers.
    """
    _film(
        key=key,
        data={
            "frames": [base64.b64encode(png).decode() for png in frames.values()],
            "names": list(frames),
            "label": label,
            "alt": alt,
        },
    )
