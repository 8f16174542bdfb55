"""An animated diagram of clients around a server: who sent how much in which round."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import streamlit as st

_HTML = """
<svg viewBox="0 0 640 312" role="img"></svg>
<div class="row"><button type="button" aria-label="Play the rounds"></button><input type="range"
  min="1" step="1" aria-label="Round" /></div>
<output aria-live="off"></output>
"""
_CSS = """
svg { width: 100%; display: block; }
text { font-family: var(--st-font); fill: var(--st-text-color); font-size: 13px;
  text-anchor: middle; }
.row { display: flex; gap: 0.75rem; align-items: center; margin: 0.9rem 0 0.4rem; }
.row[hidden] { display: none; }
input { flex: 1; accent-color: var(--st-primary-color); }
output { display: block; font-family: var(--st-font); font-size: 0.9rem;
  color: var(--st-text-color); min-height: 2.6em; }
button { border: 1px solid var(--st-border-color); background: transparent; color: inherit;
  border-radius: 0.5rem; padding: 0.2rem 0.7rem; cursor: pointer; }
"""
_JS = """
const NS = "http://www.w3.org/2000/svg";
const SERVER = [320, 40];
const COLOURS = {
  sent: "#0072B2", nothing: "#9a9a9a", dropped: "#9a9a9a", refused: "#D55E00", away: "#cfcfcf" };
const state = (code) => (code > 0 ? "sent"
  : { 0: "nothing", "-1": "dropped", "-2": "refused", "-3": "away" }[code]);
const place = (i, n) => {
  const rows = n > 10 ? 2 : 1, inRow = Math.ceil(n / rows), row = Math.floor(i / inRow),
    count = row === rows - 1 ? n - inRow * (rows - 1) : inRow;
  return [640 * ((i % inRow) + 0.5) / count, 190 + row * 72];
};
const add = (parent, tag, attributes, text) => {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
};
export default function ({ data, parentElement }) {
  const find = (what) => parentElement.querySelector(what);
  const [svg, row, range, output, button] = ["svg", ".row", "input", "output", "button"].map(find);
  const memory = (parentElement.veil ??= { round: 0 });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const rounds = data.rounds.length;
  let timer = null, frame = null;
  const draw = (round) => {
    cancelAnimationFrame(frame);
    svg.replaceChildren();
    svg.setAttribute("aria-label", data.alt);
    const codes = round ? data.rounds[round - 1] : new Array(data.clients).fill(null);
    add(svg, "rect", { x: SERVER[0] - 62, y: 8, width: 124, height: 58, rx: 8, fill: "none",
      stroke: "#009E73", "stroke-width": 3 });
    add(svg, "text", { x: SERVER[0], y: 32, "font-weight": 600 }, "server");
    add(svg, "text", { x: SERVER[0], y: 52 }, data.named[round] ?? "");
    codes.forEach((code, i) => {
      const [x, y] = place(i, codes.length), kind = code === null ? "sent" : state(code);
      add(svg, "line", { x1: x, y1: y - 4, x2: SERVER[0], y2: 66, stroke: "#9a9a9a",
        "stroke-width": 0.6, "stroke-opacity": 0.5 });
      add(svg, "rect", { x: x - 11, y, width: 22, height: 36, rx: 4,
        fill: kind === "sent" ? "none" : COLOURS[kind], "fill-opacity": 0.35, stroke: COLOURS[kind],
        "stroke-width": 2, "stroke-dasharray": kind === "nothing" ? "3 3" : "none" });
      if (data.had[i] !== undefined && kind !== "nothing")
        add(svg, "rect", { x: x - 9, y: y + 34 - 32 * data.had[i], width: 18,
          height: 32 * data.had[i], rx: 2, fill: "#56B4E9", "fill-opacity": 0.35 });
      if (kind === "refused" || kind === "dropped")
        add(svg, "text", { x, y: y + 24, "font-weight": 700 }, kind === "refused" ? "✕" : "–");
      const told = { sent: code === null ? "" : data.sizes[String(code)] ?? "", nothing: "nothing",
        dropped: "dropped out", refused: "refused", away: "not sampled" }[kind];
      if (codes.length <= 10) add(svg, "text", { x, y: y + 52, "font-size": 11 }, told);
      add(svg, "title", {}, told);
    });
    output.value = data.words[round] ?? "";
    if (!round || calm || !(data.live ? round !== memory.round : timer)) return;
    const dots = codes.map((code, i) => code > 0 || code === -2
      ? add(svg, "circle", {
        r: Math.max(2.5, 11 * Math.sqrt(Math.min(1, (code > 0 ? code : data.full) / data.full))),
        fill: code > 0 ? COLOURS.sent : COLOURS.refused, "fill-opacity": 0.75 })
      : null);
    const begun = performance.now();
    const move = (now) => {
      const share = Math.min(1, (now - begun) / 550);
      dots.forEach((dot, i) => {
        if (!dot) return;
        const [x, y] = place(i, codes.length);
        dot.setAttribute("cx", x + (SERVER[0] - x) * share);
        dot.setAttribute("cy", y - 4 + (70 - y) * share);
        dot.setAttribute("fill-opacity", share < 1 ? 0.75 : 0);
      });
      if (share < 1) frame = requestAnimationFrame(move);
    };
    frame = requestAnimationFrame(move);
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "▶"; };
  const play = () => {
    let round = +range.value >= rounds ? 0 : +range.value;
    button.textContent = "❚❚";
    timer = setInterval(() => {
      if (round >= rounds) return stop();
      range.value = ++round;
      draw(round);
    }, 700);
  };
  row.hidden = data.live || !rounds;
  range.max = Math.max(1, rounds);
  range.value = rounds;
  range.oninput = () => { stop(); draw(+range.value); };
  button.onclick = () => (timer ? stop() : play());
  stop();
  draw(rounds);
  memory.round = rounds;
  return () => { stop(); cancelAnimationFrame(frame); };
}
"""
_diagram = st.components.v2.component("veil_clients", html=_HTML, css=_CSS, js=_JS)


@dataclass(frozen=True)
class Drawing:
    """All that the component in the browser is given."""

    # for each round, what each drawn client has sent, in bytes, or a code below 1
    # (engine/studies/gradient_sharing/federation.py)
    rounds: list[list[int]]
    clients: int
    full: int  # bytes of all gradients
    named: list[str]  # the text on the server, from round 0 on
    words: list[str]  # the text below it, from round 0 on
    sizes: dict[str, str]  # bytes → text
    had: list[float]  # how full each client is, in [0, 1], if that is known
    live: bool  # it runs: only the newest round is shown
    alt: str


def diagram(drawing: Drawing, key: str) -> None:
    """Show the diagram."""
    _diagram(key=key, data=asdict(drawing))
