"""Page Noise: what the Gaussian mechanism does to one picture, at once."""

import time
from dataclasses import replace

import streamlit as st

from engine import data, uploads
from engine.lab import made
from engine.studies.noise import STRIP, Noise
from engine.study import key
from pages.parts import charts, panels, words
from pages.parts.controls import Controls

OWN_SIZE = 64

st.title("Can anyone still be recognised?", anchor=False)
st.markdown("Before a picture leaves a phone, noise can be added to it. The privacy budget ε (epsilon) says how much may still be found out: the smaller, "
            "the more noise, and the harder it is to tell which picture it was. "
            "**Drag the dial and watch where the picture drowns.**")

controls = Controls(Noise)
controls.complain()
controls.dial("epsilon")
controls.presets({"quick": "Start", "report": "As in the report"})

# --- which picture ---------------------------------------------------------------------------------------------------------
with st.expander("Choose the picture", icon=":material/image:", expanded=controls.opens("dataset", "category", "index", also=controls.lacks_data())):
    left, middle, right = st.columns(3)
    with left:
        controls.dataset()
    if controls.missing:
        st.stop()
    images = data.exhibits(controls.value("dataset"))
    with middle:
        controls.category("category", images.classes)
    with right:
        controls.below("index", int((images.test_labels == controls.value("category")).sum()), "this class has the pictures")
        controls.number("index")
    source = st.segmented_control("Or a picture of your own, which is never stored", ["no", "upload", "webcam"], default="no",
                                  required=True, key="noise.source")
    raw = None
    if source == "upload":
        raw = st.file_uploader("One PNG or JPEG, at most 5 MB", type=["png", "jpg", "jpeg"], max_upload_size=5)
    elif source == "webcam":
        raw = st.camera_input("Take a picture")
with st.expander("More settings", icon=":material/tune:",
                 expanded=controls.opens("calibration", "sensitivity", "delta", "seed")):
    first, second = st.columns(2)
    with first:
        controls.choice("calibration")
        controls.choice("sensitivity")
    with second:
        controls.number("delta")
        controls.number("seed")

study = controls.ready()
picked, label = study.pick(images)
if raw is not None:
    try:
        picked = uploads.decode(raw.getvalue(), size=OWN_SIZE, channels=3)
    except uploads.Refused as refused:
        st.error(words.plain(str(refused)), icon=":material/broken_image:")
        st.stop()
    st.caption("Your picture, cut to a square and scaled to 64 × 64 pixels in colour. It needs a larger ε to be made out than a digit of 28 × 28: its "
               "length of 1 is spread over 12,288 numbers instead of 784.")
begun = time.perf_counter()
result = study.release(picked, label, images.classes)
if raw is None:  # a visitor's own picture has no key and no command: it is not kept
    result = replace(result, made=made(study, key(study), time.perf_counter() - begun))
metrics, facts = result.metrics, result.facts

# --- the pictures ------------------------------------------------------------------------------------------------------------
before, after, numbers = st.columns([1, 1, 1.2])
before.image(result.pictures["original"], caption="The picture", width="stretch", alt=f"The original picture: {facts['label']}")
after.image(result.pictures["noised"], caption=f"What leaves the phone at ε = {words.epsilon(metrics['epsilon_picture'])}, brightened", width="stretch",
            alt=f"The same picture under noise of {metrics['noise_norm']:.2g} times its own strength")
with numbers:
    st.metric("Noise, compared with the picture", f"{words.times(metrics['noise_norm'])} ×",
              help="Expected length of the noise, the picture's own length being 1.")
    one, two = st.columns(2)
    one.metric("σ on each pixel", f"{metrics['sigma']:.4g}", help="Standard deviation of the noise on each pixel of the unit-length picture.")
    two.metric("Signal to noise", f"{metrics['snr_db']:.1f} dB", help="Power of the picture over the power of the noise.")
    one.metric("Likeness (SSIM)", f"{metrics['ssim'] + 0:.3f}".replace("-0.000", "0.000"), help="Structural similarity, 1 for the same picture.")
    two.metric("PSNR", f"{metrics['psnr_db']:.1f} dB", help="Peak signal-to-noise ratio of the released picture.")
if not study.proved:
    st.warning(f"This formula names ε = {study.epsilon:,.6g}, but its σ = {metrics['sigma']:.3g} really gives "
               f"**ε = {words.epsilon(metrics['epsilon_picture'])}** when one picture is replaced by another.", icon=":material/calculate:")

st.markdown("**The same picture at six budgets**", help="Those of figure 1 in the student report that this page re-examines: Green, Hodson and Hanoian 2020.")
for column, epsilon in zip(st.columns(len(STRIP)), STRIP):
    really = "" if study.proved else f" by name, really {words.epsilon(study.earned(epsilon))}"
    column.image(result.pictures[f"strip_{epsilon:g}"], caption=f"ε = {epsilon:,g}{really}", width="stretch",
                 alt=f"The picture under the noise of ε = {epsilon:g}")

# --- the label ---------------------------------------------------------------------------------------------------------------
st.subheader("And what is written on it", anchor=False)
controls.dial("label_epsilon")
said, chart = st.columns([1, 1.4], vertical_alignment="center")
shows = "Suppose your picture is labelled" if raw else "The picture shows"
said.markdown(f"{shows} **{words.plain(facts['label'])}**. The phone says: **{words.plain(facts['told_label'])}**.")
said.markdown(f"It tells the truth with a chance of {100 * metrics['label_keep_probability']:.3g} %, and otherwise names one of the "
              f"other {facts['classes'] - 1}, each as likely. That is *randomised response*: a biased coin decides between truth and lie. "
              "The smaller ε, the better one can blame the coin.")
chart.plotly_chart(charts.label_odds(list(images.classes), metrics["label_keep_probability"], facts["label"]), key="label odds",
                   alt="Bars: the chance of each label to be told", config={"displayModeBar": False})
st.markdown(f"Picture (ε = {words.epsilon(metrics['epsilon_picture'])}) and label (ε = {metrics['epsilon_label']:g}) together: "
            f"**ε = {words.epsilon(result.guarantee.epsilon)}**, δ = {study.delta:.3g}.")

panels.odds(result.guarantee, "An attacker knows that it is one of two pictures, each with its label. Which one?",
            "Without looking", "Seeing what left the phone")
st.caption(f"From the picture alone they {words.how_often(metrics['odds_picture']).replace('*', '')}, from the label alone they "
           f"{words.how_often(metrics['odds_label']).replace('*', '')}.")
panels.guarantee(result.guarantee)
with st.expander("The formulas", icon=":material/function:"):
    st.markdown(r"""
The picture $x$ becomes $u = x / \lVert x \rVert_2$; released is $\max(u + \mathcal N(0, \sigma^2 I),\, 0)$. Replacing $u$ by another
non-negative unit vector moves it by at most $\Delta = \sqrt 2$.

**Exact** (Balle and Wang 2018): the least $\sigma$ with
$\Phi\!\left(\tfrac{\Delta}{2\sigma} - \tfrac{\varepsilon\sigma}{\Delta}\right) - e^{\varepsilon}\,\Phi\!\left(-\tfrac{\Delta}{2\sigma} - \tfrac{\varepsilon\sigma}{\Delta}\right) \le \delta$.
**Textbook**: $\sigma = \Delta \sqrt{2 \ln(1.25/\delta)} / \varepsilon$, proved for $\varepsilon < 1$ only.

**Label**, one of $k$: the truth with probability $e^{\varepsilon} / (e^{\varepsilon} + k - 1)$, each other one with $1 / (e^{\varepsilon} + k - 1)$.
""")
panels.made(study, result, again=raw is None)
