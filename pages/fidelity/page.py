"""Page Fidelity: train generators with and without privacy; compare quality and copying.

It also shows which metric detects copies. Report 4 is by Faber (see docs/fidelity.md).
"""

import math

import streamlit as st

from engine.core import rounding
from engine.core.lab import settings_of
from engine.datasets import registry
from engine.studies.ensemble import Ensemble
from engine.studies.fidelity import CONTROLS, EXTRACTORS, GENERATORS, Fidelity
from pages.common import live, panels, sentences
from pages.common.controls import Controls, Look
from pages.common.scrubber import scrubber
from pages.fidelity import charts, text

SPACES = {"pixels": "by pixels", "features": "by what the network sees"}
RELEASED = {
    "private GAN": "the private GAN",
    "private DP-MERF": "DP-MERF",
    "both": "both private ones",
    "GAN without privacy": "the GAN without privacy",
}
WHAT = {
    "GAN without privacy": (
        "Two networks: one draws, the other has seen real pictures and judges. Each learns from the"
        " other."
    ),
    "private GAN": (
        "The same, but whatever a single real picture teaches the judge is cut short and drowned in"
        " noise."
    ),
    "private DP-MERF": (
        "Sees a noised average of all pictures, once. Then it learns to draw what has that average."
    ),
}
# Report 4's table: Fréchet distance and MiFID by torchmetrics on 64 features of Inception-v3, 1,000
# images of CelebA with negative pixels wrapped around.
REPORT = {
    "GAN without privacy": (1.58, 2460.0),
    "private GAN": (4.80, 535.0),
    "untrained generator (its notebook)": (56.05, 2316.0),
}

st.title("Does a machine that draws hand out the pictures it learned from?", anchor=False)
st.markdown(
    "A generator looks at real pictures and then draws new ones. Has it understood what they have"
    " in common, or has it learned some of them by heart? **Press Run and watch three of them"
    " learn, two of them under privacy. Then let them learn from only fifty pictures.**"
)

controls = Controls(
    Fidelity,
    hidden=("source", "private"),
    looks={
        "set": Look(tuple(GENERATORS) + tuple(CONTROLS.values()), ("GAN without privacy",)),
        "space": Look(tuple(SPACES), ("pixels",)),
        "released": Look(tuple(RELEASED), ("private GAN",)),
    },
)
controls.complain()
controls.dial("target_epsilon")
controls.presets(
    {
        "quick": "Start",
        "few": "Only fifty pictures",
        "fashion": "Clothes",
        "report": "As in the report",
    }
)
with st.expander(
    "More settings",
    icon=":material/tune:",
    expanded=controls.opens(*controls.specs, also=controls.lacks_data()),
):
    first, second, third = st.columns(3)
    with first:
        st.markdown("**The pictures**")
        controls.dataset()
        for name in ("size", "colour", "extractor"):
            controls.choice(name)
        for name in ("examples", "samples", "latent", "averaging", "delta", "seed"):
            controls.number(name, "all" if name == "examples" else "")
    with second:
        st.markdown("**The GAN**")
        controls.switch("labelled")
        for name in (
            "steps",
            "discriminator_steps",
            "batch_size",
            "generator_width",
            "discriminator_width",
            "generator_learning_rate",
            "discriminator_learning_rate",
        ):
            controls.number(name, "the usual")
        controls.number("max_grad_norm")
    with third:
        st.markdown("**DP-MERF**")
        for name in (
            "frequencies",
            "length",
            "merf_steps",
            "merf_batch_size",
            "merf_width",
            "merf_learning_rate",
        ):
            controls.number(name)

study = controls.ready()
shown = registry.preview(study.dataset)
controls.checked(lambda: study.check(shown))
generators, sets = study.generators(), study.table()
together = Ensemble(members=tuple(generators.values()))
studies = {"the generators": together} | {f"measuring: {name}": each for name, each in sets.items()}
named = EXTRACTORS[study.extractor].split(",")[0]
live.run_button(studies, unknown="")


# --- training the generators ----------------------------------------------------------------------


def draw_growing(views: dict[str, live.View]) -> None:
    """Draw the current galleries and distances."""
    live.progress(views)
    if views["the generators"].result is not None:
        # From now on the galleries are films, which are not sent again at every tick.
        st.rerun()
    found = {name: live.look(member, remembered=True) for name, member in generators.items()}
    curves = {
        name: view.curves if view.result else live.of_member(views["the generators"], number)
        for number, (name, view) in enumerate(found.items())
    }
    shown_ = {
        name: (
            view.pictures.get("gallery")
            or views["the generators"].pictures.get(f"{number}:gallery")
        )
        for number, (name, view) in enumerate(found.items())
    }
    if not any(shown_.values()):
        left, right = st.columns([1, 2], vertical_alignment="center")
        left.image(study.sample(), width="stretch", alt="Some of the real pictures")
        left.caption(
            "Real pictures, from which three generators learn. Theirs will appear here, out of"
            " noise."
        )
        right.markdown("\n".join(f"- **{name}**. {what}" for name, what in WHAT.items()))
        return
    for number, (column, name) in enumerate(zip(st.columns(3), found)):
        with column:
            st.markdown(f"**{name}**", help=WHAT[name])
            if shown_[name]:
                st.image(
                    shown_[name], width="stretch", alt=f"Pictures made by the {name} as of now"
                )
            st.caption(
                text.grown(curves[name], members_steps(number))
                if shown_[name]
                else "Waits for its turn."
            )
    draw_distances(curves)


def members_steps(number: int) -> int:
    """The total number of steps of a generator."""
    member = list(generators.values())[number]
    return member.merf_steps if member.NAME == "dp_merf" else member.usual("steps")


def draw_distances(curves: dict[str, dict]) -> None:
    """Draw the distance from real images over the training."""
    lines = {
        name: [
            (100 * step / members_steps(number), value)
            for step, value in found.get("frechet_distance", [])
        ]
        for number, (name, found) in enumerate(curves.items())
    }
    if any(lines.values()):
        done = [
            result
            for member in generators.values()
            if (result := live.look(member, remembered=True).result)
        ]
        real = done[0].metrics.get("real_frechet_distance") if done else None
        st.plotly_chart(
            charts.growth(lines, real),
            key="growth",
            config={"displayModeBar": False},
            alt="Fréchet distance from the real pictures over the training, one line a generator",
        )
        st.caption(
            "How far the pictures are from real ones, as our own network sees them (Fréchet"
            f" distance over its 64 features, {min(1000, study.samples):,} pictures at a time)."
            " Down is nearer: from one line of the grid to the next ten times."
            + (" Dotted: as many real pictures that nobody learned from." if real else "")
        )


def draw_films(found: dict) -> None:
    """Draw a film of each generator from its first step to its last."""
    for column, (name, result) in zip(st.columns(3), found.items()):
        film = {
            sentences.after(int(frame[5:])): png
            for frame, png in sorted(result.pictures.items())
            if frame.startswith("film_")
        }
        with column:
            promise = (
                f"ε = {rounding.epsilon(result.guarantee.epsilon)}"
                if result.guarantee.epsilon is not None
                else "nothing promised"
            )
            st.markdown(f"**{name}** ({promise})", help=WHAT[name])
            scrubber(
                film,
                f"Steps of {name}",
                f"Pictures made by the {name}, each row a walk from one to another",
                f"film {name}",
            )
    judged = study.gan(private=True).usual("discriminator_steps")
    rows = (
        "In each row they were told to draw one class; how well they keep to it you see. "
        if study.labelled
        else ""
    )
    st.caption(
        f"They learned from {study.count(shown):,} pictures. Drag to go back to the first step (one"
        f" of the generator; the private judge takes {judged} to each). {rows}Each row walks from"
        " one picture to another: a generator that has understood them changes smoothly, one that"
        " has learned a few by heart jumps or stands still, and so does one that has learned"
        " nothing."
    )


# --- measurements ---------------------------------------------------------------------------------


def draw_measured(views: dict[str, live.View]) -> None:
    """Draw what has been measured so far: the answer, the chart, the table."""
    live.progress(views)
    found = {
        name: views[f"measuring: {name}"].result
        for name in sets
        if views[f"measuring: {name}"].result is not None
    }
    if not found:
        return
    metrics = {name: result.metrics for name, result in found.items()}
    if len(found) == len(sets):
        st.subheader("How good are they, and are they copies?", anchor=False)
        st.markdown(text.copied(metrics, tuple(generators)))
    names = list(charts.PANELS)
    for column, some, alt in zip(
        st.columns(2),
        (names[:2], names[2:]),
        ("Fréchet distance and share of copies", "Two kinds of MiFID"),
    ):
        column.plotly_chart(
            charts.sets(metrics, tuple(some), study.extractor),
            key=f"sets {some[0]}",
            config={"displayModeBar": False},
            alt=f"{alt} for each set of pictures",
        )
    st.caption(text.sets(study.extractor, study.samples))
    panels.warnings(found)
    with st.expander("All numbers", icon=":material/table_chart:"):
        st.dataframe(
            [{"Pictures": name, **text.measured(m)} for name, m in metrics.items()],
            hide_index=True,
        )
        st.caption(
            f"Features: {named}. *MiFID, torchmetrics* averages over real pictures the nearest"
            " generated one, *MiFID, Bai* over generated pictures the nearest real one; both from"
            " the pictures learned from, both leave distances above 0.1 unpunished. *Cosine"
            " distance*: what they divide by. The kernel distance has no bias, so it may fall a"
            " little below 0. Two rows can be compared; rows of other features or other numbers of"
            " pictures cannot."
        )


def draw_finder() -> None:
    """Draw generated images beside their nearest training and held-out images.

    Those most like copies come first.
    """
    st.subheader("The memorisation finder", anchor=False)
    name = controls.look("set", "Whose pictures", {n: n for n in sets}, required=True)[0]
    space = controls.look("space", "Nearest", SPACES, required=True)[0]
    result = live.look(sets[name], remembered=True).result
    left, right = st.columns([1, 1.2])
    with left:
        st.image(
            result.pictures[f"nearest_{space}"],
            width="stretch",
            alt=(
                "Triples: a picture of the set, the nearest picture that was learned from, the"
                " nearest one that was not"
            ),
        )
        st.caption(
            "Groups of three, the most suspicious first: left a picture of the set, in the middle"
            " the nearest picture that was learned from, right the nearest one that *nobody*"
            " learned from."
        )
    with right:
        st.plotly_chart(
            charts.ratios(
                result.arrays[f"ratios_{space}"],
                result.arrays[f"yardstick_{space}"],
                result.metrics[f"threshold_{space}"],
                name,
            ),
            key="ratios",
            config={"displayModeBar": False},
            alt=(
                "How often each ratio of distances occurs, in this set and among real pictures that"
                " nobody learned from"
            ),
        )
        st.caption(
            "For each picture: how far the nearest picture learned from is, over how far the"
            " nearest held-out one is. 0 is an exact copy. Grey: the same for real pictures that"
            " nobody learned from, the yardstick; below the dotted line lie about 5 in 100 of them."
            " A picture learned from *comes back* where a ratio is below a third of what 99 in 100"
            " grey ones lie above; unseen pictures show how often that happens to duplicates within"
            " the data."
        )


def draw_finished(found: dict) -> None:
    """Draw the guarantee, the details, and how the results were made."""
    promises = {name: result.guarantee for name, result in found.items()} | {
        "both": live.look(together, remembered=True).result.guarantee
    }
    promise = promises[
        controls.look("released", "What if you publish the pictures of", RELEASED, required=True)[0]
    ]
    panels.odds(
        promise,
        "An attacker wants to know whether your picture was among those that the generator learned"
        " from, or its place was left blank.",
        "Without looking at the generated pictures",
        "With the generator in hand",
    )
    panels.guarantee(promise)
    panels.deeper(
        {
            "Where MiFID misleads": lambda: st.markdown(text.MIFID),
            "The report": draw_report,
            "Formulas": lambda: st.markdown(text.FIDELITY_FORMULAS),
        }
    )
    more = {
        name: (each, result)
        for name, each in sets.items()
        if (result := live.look(each, remembered=True).result)
    } | {f"training: {name}": (generators[name], result) for name, result in found.items()}
    changed = settings_of(study, without=("source", "private"))
    first = sets["private GAN"]
    panels.made(
        first,
        live.look(first, remembered=True).result,
        more={name: pair for name, pair in more.items() if name != "private GAN"},
        series=f"python -m engine series fidelity table{changed}",
    )


def draw_report() -> None:
    """Draw report 4's table beside our results, with its mistake and without."""
    st.markdown(text.FIDELITY_REPORT)
    rows = [
        {
            "Pictures": f"the report: {name}",
            "Fréchet distance, as published": f"{distance:.2f}",
            "MiFID, as published": f"{mifid:,.0f}",
        }
        for name, (distance, mifid) in REPORT.items()
    ]
    for name, each in sets.items():
        m = live.look(each, remembered=True).result.metrics
        rows.append(
            {
                "Pictures": f"ours: {name}",
                "Fréchet distance, as published": f"{m['published_frechet_distance']:.2f}",
                "MiFID, as published": text.large(m.get("published_mifid", math.nan)),
                "Fréchet distance, corrected": f"{m['corrected_frechet_distance']:.2f}",
                "MiFID, corrected": text.large(m.get("corrected_mifid", math.nan)),
                "n": f"{m['published_pictures']:,}",
            }
        )
    st.dataframe(rows, hide_index=True)
    st.caption(
        "*As published*: pixels in [−1, 1] where the metric expects [0, 1], so that dark ones wrap"
        f" around. *Corrected*: the same pictures as they are. Ours: {named}, {study.dataset}; *n*:"
        " how many of the set, and as many of the training pictures, learned from or not. The"
        " report: 64 features of Inception-v3, CelebA. Only columns of the same features and"
        " pictures can be compared."
    )


made = live.look(together, remembered=True)
if made.result is None:
    live.follow(studies, draw_growing)
else:
    grown = {name: live.look(member, remembered=True).result for name, member in generators.items()}
    measured = all(live.look(each, remembered=True).result is not None for each in sets.values())
    if not measured:  # keep the progress, and errors, next to the button
        live.follow(studies, draw_measured)
    draw_films(grown)
    draw_distances({name: result.curves for name, result in grown.items()})
    if measured:
        live.follow(studies, draw_measured)
        draw_finder()
        draw_finished(grown)
