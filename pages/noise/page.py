"""Page Noise: show at once what the Gaussian mechanism does to one image.

Below, networks are trained on noised images. Report 1 is Green, Hodson, Hanoian 2020.
"""

import time
from dataclasses import replace

import numpy as np
import streamlit as st

from engine.core import parameters, rounding
from engine.core.lab import made
from engine.core.study import key
from engine.datasets import imaging, registry, uploads
from engine.studies.noise import (
    ARMS,
    BUDGETS,
    DEPTHS,
    STRIP,
    WIDTHS,
    Noise,
    NoisyTraining,
    least_budgets,
)
from pages.common import live, panels, sentences
from pages.common.controls import Controls, Look
from pages.noise import charts, text

OWN_SIZE = 64
NETWORKS = {
    "shallow": "The shallow network (two convolutions)",
    "deep": "The deep network (four convolutions)",
}
CLOSER = {
    "walk": "What privacy cost, what the errors cost",
    "sweep": "Does depth amplify noise?",
    "survival": "Which pictures survive?",
}
ARM_WORDS = {
    arm: "raw pictures, true labels" if arm == "raw" else f"noised pictures, {arm}" for arm in ARMS
}
LOOKS = {
    "arms": Look(tuple(ARMS), ("raw", "true labels", "K-means labels"), several=True),
    "closer": Look(tuple(CLOSER)),
    "walked": Look(tuple(ARMS)[2:], ("K-means labels",)),
}
# Report 1's results, read off its figure 2; it trained no network on IIC's labels.
AS_PUBLISHED = {"randomised": (0.10, 0.11), "kmeans": (0.15, 0.16)}

st.title("Can anyone still be recognised?", anchor=False)
st.markdown(
    "Before a picture leaves a phone, noise can be added to it. The privacy budget ε (epsilon) says"
    " how much may still be found out: the smaller, the more noise, and the harder it is to tell"
    " which picture it was. **Drag the dial and watch where the picture drowns.**"
)

# "network" is hidden because both are trained, "images" and "labels" because arms set them
controls = Controls(Noise, NoisyTraining, hidden=("images", "labels", "network"), looks=LOOKS)
controls.complain()
controls.dial("epsilon")
controls.presets({"quick": "Start", "report": "As in the report"})

# --- choice of the image --------------------------------------------------------------------------
with st.expander(
    "Choose the picture",
    icon=":material/image:",
    expanded=controls.opens("dataset", "category", "index", also=controls.lacks_data()),
):
    left, middle, right = st.columns(3)
    with left:
        controls.dataset()
    if controls.missing:
        st.stop()
    images = registry.preview(controls.value("dataset"))
    with middle:
        controls.category("category", images.classes)
    with right:
        controls.below(
            "index",
            int((images.test_labels == controls.value("category")).sum()),
            "this class has the pictures",
        )
        controls.number("index")
    source = st.segmented_control(
        "Or a picture of your own, which is never stored",
        ["no", "upload", "webcam"],
        default="no",
        required=True,
        key="noise.source",
    )
    raw = None
    if source == "upload":
        raw = st.file_uploader(
            "One PNG or JPEG, at most 5 MB", type=["png", "jpg", "jpeg"], max_upload_size=5
        )
    elif source == "webcam":
        raw = st.camera_input("Take a picture")
with st.expander(
    "More settings",
    icon=":material/tune:",
    expanded=controls.opens("calibration", "sensitivity", "delta", "seed"),
):
    first, second = st.columns(2)
    with first:
        controls.choice("calibration")
        controls.choice("sensitivity")
    with second:
        controls.number("delta")
        controls.number("seed")

study = controls.ready()
picked, label = controls.checked(lambda: study.pick(images), "picture")
if raw is not None:
    try:
        picked = uploads.decode(raw.getvalue(), size=OWN_SIZE, channels=3)
    except uploads.Refused as refused:
        st.error(sentences.plain(str(refused)), icon=":material/broken_image:")
        st.stop()
    st.caption(
        "Your picture, cut to a square and scaled to 64 × 64 pixels in colour. It needs a larger ε"
        " to be made out than a digit of 28 × 28: its length of 1 is spread over 12,288 numbers"
        " instead of 784."
    )
begun = time.perf_counter()
result = study.release(picked, label, images.classes)
# A visitor's own image has no key and no command, because it is not kept.
if raw is None:
    result = replace(result, made=made(study, key(study), time.perf_counter() - begun))
metrics, facts = result.metrics, result.facts

# --- the image ------------------------------------------------------------------------------------
before, after, numbers = st.columns([1, 1, 1.2])
before.image(
    result.pictures["original"],
    caption="The picture",
    width="stretch",
    alt=f"The original picture: {facts['label']}",
)
after.image(
    result.pictures["noised"],
    caption=(
        f"What leaves the phone at ε = {rounding.epsilon(metrics['epsilon_picture'])}, brightened"
    ),
    width="stretch",
    alt=f"The same picture under noise of {metrics['noise_norm']:.2g} times its own strength",
)
with numbers:
    st.metric(
        "Noise, compared with the picture",
        f"{sentences.times(metrics['noise_norm'])} ×",
        help="Expected length of the noise, the picture's own length being 1.",
    )
    one, two = st.columns(2)
    one.metric(
        "σ on each pixel",
        f"{rounding.described(metrics['sigma'])}",
        help="Standard deviation of the noise on each pixel of the unit-length picture.",
    )
    two.metric(
        "Signal to noise",
        f"{metrics['snr_db']:.1f} dB",
        help="Power of the picture over the power of the noise.",
    )
    one.metric(
        "Likeness (SSIM)",
        f"{metrics['ssim'] + 0:.3f}".replace("-0.000", "0.000"),
        help="Structural similarity, 1 for the same picture.",
    )
    two.metric(
        "PSNR",
        f"{metrics['psnr_db']:.1f} dB",
        help="Peak signal-to-noise ratio of the released picture.",
    )
panels.warnings({"": result})

st.markdown(
    "**The same picture at six budgets**",
    help=(
        "Those of figure 1 in the student report that this page re-examines: Green, Hodson and"
        " Hanoian 2020."
    ),
)
for column, epsilon in zip(st.columns(len(STRIP)), STRIP):
    really = "" if study.proved else f" by name, really {rounding.epsilon(study.earned(epsilon))}"
    column.image(
        result.pictures[f"strip_{parameters.number(epsilon)}"],
        caption=f"ε = {rounding.chosen(epsilon)}{really}",
        width="stretch",
        alt=f"The picture under the noise of ε = {rounding.chosen(epsilon)}",
    )

# --- the label ------------------------------------------------------------------------------------
st.subheader("And what is written on it", anchor=False)
controls.dial("label_epsilon")
said, chart = st.columns([1, 1.4], vertical_alignment="center")
shows = "Suppose your picture is labelled" if raw else "The picture shows"
said.markdown(
    f"{shows} **{sentences.plain(facts['label'])}**. The phone says:"
    f" **{sentences.plain(facts['told_label'])}**."
)
said.markdown(
    f"It tells the truth with a chance of {100 * metrics['label_keep_probability']:.3g} %, and"
    f" otherwise names one of the other {facts['classes'] - 1}, each as likely. That is *randomised"
    " response*: a biased coin decides between truth and lie. The smaller ε, the better one can"
    " blame the coin."
)
chart.plotly_chart(
    charts.label_odds(list(images.classes), metrics["label_keep_probability"], facts["label"]),
    key="label odds",
    alt="Bars: the chance of each label to be told",
    config={"displayModeBar": False},
)
st.markdown(
    f"Picture (ε = {rounding.epsilon(metrics['epsilon_picture'])}) and label (ε ="
    f" {rounding.chosen(metrics['epsilon_label'])}) together: **ε ="
    f" {rounding.epsilon(result.guarantee.epsilon)}**, δ = {rounding.chosen(study.delta)}."
)

panels.odds(
    result.guarantee,
    "An attacker knows that it is one of two pictures, each with its label. Which one?",
    "Without looking",
    "Seeing what left the phone",
)
st.caption(
    f"From the picture alone they {sentences.how_often(metrics['odds_picture']).replace('*', '')},"
    f" from the label alone they {sentences.how_often(metrics['odds_label']).replace('*', '')}."
)
panels.guarantee(result.guarantee)
with st.expander("The formulas", icon=":material/function:"):
    st.markdown(r"""
The picture $x$ becomes $u = x / \lVert x \rVert_2$; released is
$\max(u + \mathcal N(0, \sigma^2 I),\, 0)$. Replacing $u$ by another non-negative unit vector moves
it by at most $\Delta = \sqrt 2$.

**Exact** (Balle and Wang 2018): the least $\sigma$ with $\Phi\!\left(\tfrac{\Delta}{2\sigma} -
\tfrac{\varepsilon\sigma}{\Delta}\right) - e^{\varepsilon}\,\Phi\!\left(-\tfrac{\Delta}{2\sigma} -
\tfrac{\varepsilon\sigma}{\Delta}\right) \le \delta$. **Textbook**:
$\sigma = \Delta \sqrt{2 \ln(1.25/\delta)} / \varepsilon$, proved for $\varepsilon < 1$ only.

**Label**, one of $k$: the truth with probability $e^{\varepsilon} / (e^{\varepsilon} + k - 1)$,
each other one with $1 / (e^{\varepsilon} + k - 1)$.
""")
panels.made(study, result, again=raw is None)

# --- training on noised images --------------------------------------------------------------------
st.header("Can a machine still learn from such pictures?", anchor=False)
st.markdown(
    "Every phone noises its own picture by the dial above, and a network learns from what leaves"
    " the phones: nobody else sees the pictures themselves. Beside it, for comparison, one that"
    " learns from raw pictures. The two networks are those of a student report (Green, Hodson and"
    " Hanoian 2020) that found next to nothing left to learn. **Choose what the network is told,"
    " press Train, and compare.**"
)
chosen = controls.look("arms", "What the network learns from", ARM_WORDS)
with st.expander(
    "Settings of the training, and the report's errors",
    icon=":material/tune:",
    expanded=controls.opens(
        "epochs",
        "batch_size",
        "learning_rate",
        "width",
        "division",
        "label_noise",
        "matching",
        "normalisation",
    ),
):
    one, two, three = st.columns(3)
    with one:
        for name in ("epochs", "batch_size"):
            controls.number(name)
    with two:
        for name in ("learning_rate", "width"):
            controls.number(name)
    with three:
        for name in ("division", "normalisation", "label_noise", "matching"):
            controls.choice(name)
base = controls.ready(NoisyTraining)
controls.checked(lambda: [base.arm(arm).check(images) for arm in chosen])
if not chosen:
    st.info("Choose at least one kind of pictures and labels above.", icon=":material/touch_app:")
arms = {
    f"{arm}, {network}": base.arm(arm, network=network) for arm in chosen for network in NETWORKS
}
live.run_button(arms, "Train")
closer = next(iter(controls.look("closer", "Look closer", CLOSER)), None)
told = (
    controls.look("walked", "For", ARM_WORDS, required=True)[0]
    if closer == "walk"
    else "K-means labels"
)
extra = (
    {f"{closer}: {name}": other for name, other in getattr(base.arm(told), closer)().items()}
    if closer
    else {}
)
if extra:
    live.run_button(extra, "Run these too")


def draw(views: dict[str, live.View]) -> None:
    """Draw everything below the settings from the current state."""
    live.progress(views)
    draw_arms({who: view for who, view in views.items() if who in arms})
    more = {who.split(": ", 1)[1]: view for who, view in views.items() if who in extra}
    if more:
        st.subheader(CLOSER[closer], anchor=False)
        {"walk": draw_walk, "sweep": draw_sweep, "survival": draw_survival}[closer](more)
        st.caption(text.SEVERAL_RELEASES)
    draw_promise({who: view for who, view in views.items() if who in arms})


def draw_arms(views: dict[str, live.View]) -> None:
    """Draw both networks side by side: figure 2 of report 1."""
    for (network, title), column in zip(NETWORKS.items(), st.columns(2)):
        with column:
            st.markdown(f"**{title}**")
            curves = {arm: views[f"{arm}, {network}"].curves for arm in chosen}
            st.plotly_chart(
                charts.arms(curves, base.epochs, base.chance()),
                key=f"arms {network}",
                config={"displayModeBar": False},
                alt=(
                    f"Accuracy of {title.lower()} over epochs, for each kind of pictures and labels"
                ),
            )
            ends = {
                arm: found["test_accuracy"][-1]
                for arm, found in curves.items()
                if found.get("test_accuracy")
            }
            results = {arm: views[f"{arm}, {network}"].result for arm in chosen}
            st.caption(
                " · ".join(
                    f"{arm}: {100 * value:.1f} %"
                    + (f" (epoch {at:.0f} of {base.epochs})" if at < base.epochs else "")
                    + (sentences.balanced(results[arm].metrics) if results[arm] else "")
                    for arm, (at, value) in ends.items()
                )
                or "Here each kind of pictures and labels will have its curve: how many new"
                " pictures are named correctly."
            )
    st.caption(
        "Solid: new pictures treated like those learned from. Dotted: the same pictures raw."
    )


def draw_promise(views: dict[str, live.View]) -> None:
    """Draw the guarantee of one finished training, and how it was made."""
    done = {who: view for who, view in views.items() if view.result is not None}
    if not done:
        return
    first = next((i for i, who in enumerate(done) if not who.startswith("raw")), 0)
    who = st.selectbox(
        "What is guaranteed to whoever is in the data of",
        list(done),
        index=first,
        key="noise.promise",
        help="Each kind of pictures and labels promises something else: look at each.",
    )
    panels.warnings({name: view.result for name, view in done.items()})
    panels.guarantee(done[who].result.guarantee)
    panels.made(done[who].study, done[who].result)


def draw_walk(views: dict[str, live.View]) -> None:
    """Draw how much accuracy privacy cost and how much the errors cost."""
    arm = base.arm(told)
    found = {
        name: (kind, views[name].result.metrics["test_accuracy"] if views[name].result else None)
        for name, kind in arm.kinds().items()
    }
    st.plotly_chart(
        charts.walk(found, AS_PUBLISHED.get(arm.labels), base.chance()),
        key="walk",
        config={"displayModeBar": False},
        alt=(
            "Bars from the accuracy on raw pictures to the published one: what privacy takes, then"
            " what each error does"
        ),
    )
    st.caption(
        "The shallow network. Green: raw pictures, true labels. Yellow: what doing without labels"
        " changes, noise or not. Blue: what privacy changes, with everything done right. Red: what"
        " each error of the report's pipeline does then, added one by one. Grey: what the report"
        " measured. One seed a step: a change of a point or two may be luck, and where clustering"
        " finds the labels, even more, up or down."
    )
    if "700 pictures share one length" in views:
        st.caption(
            "The report trained no network on IIC's labels. Its shared length was in its clustering"
            " code; here the network sees those pictures too. Its fresh noise for every copy is on"
            " the page Clustering."
        )


def draw_sweep(views: dict[str, live.View]) -> None:
    """Draw accuracy over ε, depth and width; the chart fills while it runs."""
    cells = {}
    for view in views.values():
        cells[view.study.epsilon, view.study.network, view.study.width] = (
            view.result.metrics["test_accuracy"] if view.result else None
        )
    st.plotly_chart(
        charts.heat(cells, BUDGETS, DEPTHS, WIDTHS),
        key="sweep",
        config={"displayModeBar": False},
        alt="Heat maps of accuracy over the budget and the width, one for each depth",
    )
    st.caption(
        "The report asked whether depth amplifies noise. If it did, the deeper networks would fall"
        " off earlier as ε shrinks (downwards). One seed a cell; after few epochs narrow networks"
        " are still learning, so that neighbouring cells may come out either way round."
    )


def draw_survival(views: dict[str, live.View]) -> None:
    """Draw, per class, the smallest budget at which test images are classified correctly."""
    answers = {
        view.study.epsilon: view.result.arrays["predictions_noised"]
        for view in views.values()
        if view.result
    }
    if len(answers) < len(views):
        st.caption(
            f"{len(answers)} of {len(views)} budgets have been trained. The pictures appear when"
            " all have."
        )
        return
    least = least_budgets(answers, images.test_labels)
    levels = {f"from ε = {e:,g}": least == e for e in sorted(answers)} | {
        "off and on": np.isnan(least),
        "never": np.isposinf(least),
    }
    shares = {
        c: {
            name: float(chosen_[images.test_labels == i].mean()) for name, chosen_ in levels.items()
        }
        for i, c in enumerate(images.classes)
        if (images.test_labels == i).any()
    }
    hardest = dict(sorted(shares.items(), key=lambda item: item[1][next(iter(levels))]))
    st.plotly_chart(
        charts.survival(hardest),
        key="survival",
        config={"displayModeBar": False},
        alt=(
            "For each class, how many of its test pictures are named correctly from which budget on"
        ),
    )
    for column, (name, chosen_) in zip(st.columns(len(levels)), levels.items()):
        rows = [
            np.flatnonzero(chosen_ & (images.test_labels == i))[:4]
            for i in range(min(10, len(images.classes)))
        ]
        tiles = np.concatenate(
            [
                np.concatenate(
                    [
                        images.test_images[r],
                        np.full((4 - len(r), *images.test_images.shape[1:]), 60, np.uint8),
                    ]
                )
                for r in rows
            ]
        )
        column.image(
            imaging.png(imaging.gallery(tiles, columns=4)),
            caption=f"{name}: {100 * float(chosen_.mean()):.1f} %",
            width="stretch",
            alt=f"Test pictures that are named correctly {name}, a row a class",
        )
    st.caption(
        "The shallow network, trained at each ε by itself. A picture counts from the smallest ε at"
        " which it is named correctly and at every larger one too; *off and on*: wrong at ε ="
        f" {max(answers):,g}, but right at a smaller one; *never*: right at none. Classes in the"
        f" order of how few survive ε = {min(answers):g}. One noise draw for each picture: another"
        " one would move single pictures."
    )


live.follow(arms | extra, draw)
