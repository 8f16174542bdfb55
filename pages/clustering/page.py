"""Page Clustering: cluster noised images without labels.

Report 1 is Green, Hodson, Hanoian 2020.
"""

import streamlit as st

from engine.core import rounding
from engine.datasets import registry
from engine.studies.clustering import IIC, KMeansLabels
from pages.clustering import charts, text
from pages.common import live, panels, sentences
from pages.common.controls import Controls, Look

REPORT_SET = (150.0, 2000.0, 3000.0, 5000.0, 200_000.0)  # the budgets of report 1's figure 4
# matched error at the end of its curves, read off that figure; on raw images 0.055
REPORT_ERRORS = {150.0: 0.89, 2000.0: 0.89, 3000.0: 0.29, 5000.0: 0.30, 200_000.0: 0.05}
METHODS = {"K-means": KMeansLabels, "IIC": IIC}

st.title("Can a machine sort pictures that nobody has labelled?", anchor=False)
st.markdown(
    "Labels give people away too. So let a machine find its own: it puts the noised pictures into"
    " heaps, and whoever looks at a heap can name it. **Choose how much noise, press Run, and see"
    " how many pictures land in the right heap.** (It re-examines a student report: Green, Hodson"
    " and Hanoian 2020.)"
)

controls = Controls(IIC, KMeansLabels, looks={"closer": Look(("budgets",))})
controls.complain()
if controls.value("images") == "noised":
    controls.dial("epsilon")
else:
    st.info(
        "The pictures are taken as they are, without noise: there is nothing to dial, and nothing"
        " is promised.",
        icon=":material/visibility:",
    )
controls.presets({"quick": "Start", "raw": "Without noise", "report": "As in the report"})
with st.expander(
    "More settings",
    icon=":material/tune:",
    expanded=controls.opens(*controls.specs, also=controls.lacks_data()),
):
    first, second, third = st.columns(3)
    with first:
        controls.dataset()
        for name in ("images", "calibration", "sensitivity", "normalisation", "releases"):
            controls.choice(name)
    with second:
        st.markdown("**Both**")
        for name in ("clusters", "delta", "seed"):
            controls.number(name)
        st.markdown("**K-means**")
        controls.number("starts")
    with third:
        st.markdown("**IIC**")
        for name in ("network", "heads"):
            controls.choice(name)
        for name in (
            "epochs",
            "batch_size",
            "learning_rate",
            "sub_heads",
            "over_clusters",
            "views",
            "entropy_weight",
        ):
            controls.number(name)

studies = {name: controls.ready(study) for name, study in METHODS.items()}
images = registry.preview(controls.value("dataset"))
controls.checked(lambda: [study.check(images) for study in studies.values()])
live.run_button(studies)
iic = studies["IIC"]
# figure 4 of report 1
budgets = controls.look(
    "closer", "Look closer", {"budgets": "The report's five budgets beside each other"}
)
beside = (
    {f"ε = {e:,g}": iic.model_copy(update={"epsilon": e, "images": "noised"}) for e in REPORT_SET}
    if budgets
    else {}
)
if beside:
    live.run_button(beside, "Run these too")


def draw(views: dict[str, live.View]) -> None:
    """Draw everything below the settings from the current state."""
    live.progress(views)
    left, right = st.columns(2)
    with left:
        draw_kmeans(views["K-means"])
    with right:
        draw_iic(views["IIC"])
    if beside:
        draw_budgets({name: view for name, view in views.items() if name in beside})
    if views["IIC"].result or views["K-means"].result:
        draw_finished(views)


def draw_kmeans(view: live.View) -> None:
    """Draw the K-means clusters with their centres, and how well they match the classes."""
    st.subheader("K-means", anchor=False)
    st.markdown(
        "As many centres as heaps; every picture joins the nearest, every centre moves to the"
        " middle of its heap, again and again."
    )
    if "clusters" in view.pictures:
        st.image(
            view.pictures["clusters"],
            width="stretch",
            alt="A row for each heap: its centre, then some of its pictures; wrong ones framed",
        )
        st.caption(
            "A row for each heap, its centre first. "
            + (
                stands_for(view.result) + "Framed: of another class than that. "
                if view.result
                else ""
            )
            + (
                "These are the owners' own pictures, for you to judge; the machine saw noised ones."
                if iic.images == "noised"
                else ""
            )
        )
    else:
        st.image(iic.sample(), width="stretch", alt="Some of the pictures as they leave the phones")
        st.caption(
            "Pictures as they leave the phones."
            if iic.images == "noised"
            else "Some of the pictures, not noised."
        )
    if view.result:
        draw_numbers(view.result)


def draw_iic(view: live.View) -> None:
    """Draw images moving between clusters, and the losses and matched errors of all sub-heads."""
    st.subheader("IIC (invariant information clustering)", anchor=False)
    st.markdown(
        "A network learns to give a picture and its turned, shifted copies the same answer, and all"
        " answers equally often."
    )
    if "moving" in view.pictures:
        st.image(
            view.pictures["moving"],
            width="stretch",
            alt="A row for each cluster with some noised pictures that are in it now",
        )
        st.caption(
            "A row for each heap: 150 pictures, as the network sees them, where they are now. "
            + (stands_for(view.result) if view.result else "")
        )
    elif iic.images == "noised":
        st.image(
            iic.sample(noised=False), width="stretch", alt="The same pictures before the noise"
        )
        st.caption("The same pictures before the noise.")
    if view.result:
        draw_numbers(view.result)
    if any(name.startswith("loss_head") for name in view.curves):
        chosen = view.result.facts["chosen_head"] if view.result else None
        st.plotly_chart(
            charts.heads(view.curves, "error_head_", "Matched error, %", chosen, 100.0),
            key="errors",
            config={"displayModeBar": False},
            alt="Matched error of each sub-head over epochs",
        )
        st.plotly_chart(
            charts.heads(view.curves, "loss_head_", "Loss (nats)", chosen),
            key="losses",
            config={"displayModeBar": False},
            alt="Loss of each sub-head over epochs",
        )
        st.caption(
            "A line for each *sub-head*: an attempt of its own on top of the shared network. The"
            " one with the lowest loss (what the training makes small) is taken, dark; labels have"
            " no say in it."
        )


def stands_for(result) -> str:
    """The class that each row of the images stands for, from the top."""
    found = sorted(int(c) for c in result.arrays["matching"] if c >= 0)
    names = ", ".join(sentences.plain(result.facts["classes"][c]) for c in found[:12])
    return f"From the top they stand for {names}{' …' if len(found) > 12 else ''}. "


def draw_numbers(result) -> None:
    """Draw how well the clusters match the classes, with and without matching."""
    one, two, three = st.columns(3)
    one.metric(
        "In the right heap",
        f"{100 * result.metrics['matched_accuracy']:.1f} %",
        help=(
            "Training pictures whose heap stands for their class, after the best one-to-one"
            " matching of heaps and classes (Hungarian method)."
        ),
    )
    two.metric(
        "If heap 3 meant the digit 3",
        f"{100 * result.metrics['unmatched_accuracy']:.1f} %",
        help=(
            "The same without matching, with heap number 3 taken for the class number 3, and so on,"
            " as the report did. Numbers of heaps mean nothing."
        ),
    )
    three.metric(
        "New pictures, right heap",
        f"{100 * result.metrics['test_accuracy']:.1f} %",
        help="Test pictures, by the matching found on the training pictures.",
    )
    st.caption(
        "Matched on the training pictures"
        f"{sentences.balanced(result.metrics, 'matched_accuracy')}. NMI"
        f" {result.metrics['nmi']:.3f} · ARI {result.metrics['ari']:.3f}: how much heaps and"
        " classes tell of each other, without any matching; 1 is all, 0 nothing."
    )


def draw_budgets(views: dict[str, live.View]) -> None:
    """Draw figure 4 of report 1: matched error over epochs, one curve per budget.

    Its final values are shown beside ours.
    """
    st.subheader("The report's five budgets", anchor=False)
    curves, rows = {}, []
    for (name, view), epsilon in zip(views.items(), REPORT_SET):
        best = f"error_head_{view.result.facts['chosen_head']}" if view.result else None
        curves[name] = view.curves.get(best, []) if best else []
        rows.append(
            {
                "ε (named)": rounding.chosen(epsilon),
                "ε (earned)": rounding.epsilon(iic.earned(epsilon, view.study.release_count)),
                "matched error": (
                    "not run"
                    if not view.result
                    else f"{100 * (1 - view.result.metrics['matched_accuracy']):.1f} %"
                ),
                "in the report": f"about {100 * REPORT_ERRORS[epsilon]:.0f} %",
            }
        )
    st.plotly_chart(
        charts.budgets(curves, iic.epochs),
        key="budgets",
        config={"displayModeBar": False},
        alt="Matched error over epochs for each of the five budgets",
    )
    st.dataframe(rows, hide_index=True)
    st.caption(
        "*Named* is the ε that the chosen formula starts from, *earned* the one that its noise"
        " really gives over all releases. The report's numbers are read off its figure: all of"
        " MNIST, the paper's convolutions, 40 epochs, and its errors, which are corrected here"
        " unless switched on."
    )


def draw_finished(views: dict[str, live.View]) -> None:
    """Draw the guarantee and the details."""
    done = [name for name in ("IIC", "K-means") if views[name].result]
    method = (
        st.segmented_control(
            "What follows is stated for",
            done,
            default=done[0],
            required=True,
            key="clustering.promise",
        )
        if len(done) > 1
        else done[0]
    )
    view, result = views[method], views[method].result
    panels.warnings({name: v.result for name, v in views.items() if v.result})
    panels.odds(
        result.guarantee,
        "An attacker knows that your picture is one of two. Which one?",
        "Without looking",
        "Seeing what left your phone",
    )
    panels.guarantee(result.guarantee)
    done = {name: v.result for name, v in views.items() if name in METHODS and v.result}
    panels.deeper(
        {
            "Heaps and classes": lambda: draw_confusion(done),
            "What is charged": draw_charged,
            "The report": lambda: st.markdown(text.CLUSTERING_REPORT),
            "Formulas": lambda: st.markdown(text.CLUSTERING_FORMULAS),
        }
    )
    panels.made(view.study, result)


def draw_confusion(done: dict) -> None:
    """Draw the confusion matrices before and after matching."""
    for name, result in done.items():
        st.markdown(f"**{name}**")
        for column, matched in zip(st.columns(2), (False, True)):
            column.plotly_chart(
                charts.confusion(
                    result.arrays["confusion"],
                    result.arrays["matching"],
                    result.facts["classes"],
                    matched,
                ),
                key=f"confusion {name} {matched}",
                config={"displayModeBar": False},
                alt=f"Confusion matrix of {name}, {'after' if matched else 'before'} matching",
            )


def draw_charged() -> None:
    """Compare the ε of one noise draw per image with that of fresh noise for every copy."""
    once, fresh = (
        iic.model_copy(update={"releases": kind, "images": "noised"})
        for kind in ("corrected", "as_published")
    )
    count = fresh.release_count
    chosen = {True: "**This is what runs here.**", False: "Not what runs here."}
    st.markdown(
        "- **One noise draw a picture** (corrected): it leaves its phone noised once, and all"
        f" copies are made of that. ε = **{rounding.epsilon(once.earned(once.epsilon))}**."
        f" {chosen[iic.releases == 'corrected']}\n- **Fresh noise for each transformed copy** (as"
        f" published): **{count:,} releases** with these settings, together ε ="
        f" **{rounding.epsilon(fresh.earned(fresh.epsilon, count))}**; the report charged one. Many"
        " noisy copies of one picture can be averaged, and the noise fades."
        f" {chosen[iic.releases == 'as_published']}"
    )
    if iic.network == "scattering":
        st.caption(
            "The report drew again in every epoch, too. Here the wavelets look at all copies once,"
            " before the first epoch, so its epochs share the draws; with convolutions they do not,"
            " and the number of epochs multiplies the releases."
        )
    st.markdown(
        "Heaps found in noised pictures are *post-processing*: they cost nothing more, and neither"
        " do networks trained on them. Heaps found in raw pictures promise nothing, and neither do"
        " labels made of them."
    )


live.follow(studies | beside, draw)
