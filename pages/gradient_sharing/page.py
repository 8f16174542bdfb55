"""Page Gradient sharing: clients share gradients instead of images; an attack on the gradients.

Clients are called phones and rounds days on the page. Report 5 is by Bu, CS230 (see
docs/gradient_sharing.md).
"""

import streamlit as st

from engine.core.lab import settings_of
from engine.datasets import registry, source, uploads
from engine.studies.ensemble import Ensemble
from engine.studies.gradient_sharing import ARMS, SHOWN_PHONES, GradientSharing, Inversion
from pages.common import figures, live, panels, sentences
from pages.common.controls import Controls, Look
from pages.common.scrubber import scrubber
from pages.gradient_sharing import charts, text
from pages.gradient_sharing.diagram import diagram

SHOWN = {
    "arms": "How much to share",
    "noises": "Accuracy over ε",
    "policies": "Which gradients",
    "table": "First models",
}
COMPARE = {"defences": "The usual defences, beside each other"}
# parameters of the attack only, which no preset changes
LEAK = tuple(
    name
    for name in Inversion.model_fields
    if name not in GradientSharing.model_fields and name != "picture"
)
NONE, CENTRAL, ALONE = ARMS["none"], ARMS["centralised"], ARMS["alone"]

st.title("Your photos stay on your phone. What do they still give away?", anchor=False)
st.markdown(
    "A company has a program that names pictures (a *model*: here it names handwritten digits) and"
    " wants it to learn from your photos without having them. So your phone learns from them by"
    " itself, and sends only what it has learned: the *gradients*, numbers that say how the model"
    " should change; or a tenth of them. **Press Run and watch phones learn together. Then, below,"
    " look at what one upload still shows.**"
)

controls = Controls(
    GradientSharing,
    Inversion,
    hidden=("arm",),
    aside=LEAK,
    looks={"shown": Look(tuple(SHOWN), ("arms",)), "compare": Look(tuple(COMPARE))},
)
controls.complain()


def switch_dial() -> None:
    """Switch between a noise multiplier and a budget; one follows from the other."""
    by_budget = st.session_state["gradient_sharing.by"] == "budget"
    controls.change(
        target_epsilon=8.0 if by_budget else None, noise_multiplier=None if by_budget else 0.0
    )


def lacking(name: str) -> str:
    """Why nothing can run, shown in place of the Run button."""
    try:
        registry.preview(name)
    except source.Missing as missing:
        return (
            f"{missing} How to build a folder of your own: docs/gradient_sharing.md. The preset"
            " Start works with what is here."
        )
    return ""


st.session_state["gradient_sharing.by"] = (
    "noise" if controls.value("target_epsilon") is None else "budget"
)
controls.dial("fraction")
controls.presets(
    {
        "quick": "Start",
        "uneven": "Uneven phones",
        "private": "A thousand phones, with noise",
        "shokri": "Shokri and Shmatikov",
        "report": "As in the report",
    }
)
with st.expander(
    "More settings",
    icon=":material/tune:",
    expanded=controls.opens(
        *(
            name
            for name in GradientSharing.model_fields
            if name not in ("fraction", "noise_multiplier", "target_epsilon")
        ),
        also=controls.lacks_data(),
    ),
):
    first, second, third = st.columns(3)
    with first:
        st.markdown("**Pictures and first model**")
        controls.dataset()
        for name in ("network", "activation", "optimizer"):
            controls.choice(name)
        controls.number("initial_epochs")
        controls.number("initial_learning_rate", "the usual")
        controls.number("company_share")
        controls.number("seed")
    with second:
        st.markdown("**Phones**")
        for name, usual in (
            ("clients", ""),
            ("images_per_client", "all that there are"),
            ("unevenness", "even"),
            ("rounds", ""),
            ("local_epochs", ""),
            ("batch_size", ""),
            ("learning_rate", "the usual"),
            ("client_sampling_rate", ""),
            ("dropout", ""),
        ):
            controls.number(name, usual)
        controls.choice("faulty")
    with third:
        st.markdown("**What they upload**")
        controls.choice("policy")
        if controls.value("policy") == "threshold":
            controls.number("threshold")
        controls.switch("keep_rest")
        for name in ("trained", "order", "noised_by"):
            controls.choice(name)
        controls.number("max_grad_norm", "as it is; 1 with noise")
        controls.number("delta")
        controls.number("server_learning_rate")
with st.expander(
    "Noise, and a promise",
    icon=":material/grain:",
    expanded=controls.opens(
        "noise_multiplier", "target_epsilon", also=controls.value("noise_multiplier") != 0.0
    ),
):
    st.segmented_control(
        "The dial sets",
        ["noise", "budget"],
        key="gradient_sharing.by",
        on_change=switch_dial,
        required=True,
        format_func={"budget": "the budget ε", "noise": "the noise"}.get,
    )
    controls.dial(
        "noise_multiplier"
        if st.session_state["gradient_sharing.by"] == "noise"
        else "target_epsilon"
    )
    told = st.empty()
shown = controls.look("shown", "Show", SHOWN, required=True)[0]

if controls.missing:
    st.info(sentences.plain(lacking(controls.value("dataset"))), icon=":material/download:")
study = controls.ready()
previewed = registry.preview(study.dataset)
controls.checked(lambda: study.check(previewed))
promise = controls.checked(study.guarantee, "promise")
told.markdown(
    text.user_level(promise, study.plan(), study.rounds, study.clients, study.noised_by == "phone")
)
private = promise.epsilon is not None


# --- federated learning ---------------------------------------------------------------------------


def show_together() -> None:
    """Run a series of arms; chart and diagram fill while they run."""
    members = controls.checked(getattr(study, shown), "series")
    together = {"all arms": Ensemble(members=tuple(members.values()))}
    live.run_button(together, unknown="")
    live.follow(together, lambda views: draw_together(members, views["all arms"]))
    found = finished(members)
    if len(found) == len(members):
        draw_found(members, found)


def finished(members: dict) -> dict:
    """Name → Result of the finished members."""
    return {
        name: found
        for name, member in members.items()
        if (found := live.look(member, remembered=True).result) is not None
    }


def draw_together(members: dict, view: live.View) -> None:
    """Draw the current state of the series."""
    live.progress({f"{len(members)} ways of learning": view})
    found = finished(members)
    curves = {
        name: found[name].curves if name in found else live.of_member(view, number)
        for number, name in enumerate(members)
    }
    left, right = st.columns([1, 1.25])
    with left:
        draw_phones(members, found, curves, running=len(found) < len(members))
    with right:
        accuracy = {
            name: each["test_accuracy"]
            for name, each in curves.items()
            if each.get("test_accuracy")
        }
        if accuracy:
            st.plotly_chart(
                charts.days(
                    accuracy, list(members), chosen(members), study.rounds, study.chance(), private
                ),
                key=f"days-{shown}",
                config={"displayModeBar": False},
                alt="Accuracy day by day, a line for each arm",
            )
            if why := text.dip(accuracy.get(chosen(members), []), study.optimizer, private):
                st.caption(why)
        else:
            st.image(study.sample(), width="stretch", alt="Some of the pictures on the phones")
            st.caption(
                "Some of the pictures that lie on the phones. Here will be a curve for each way of"
                " learning from them: how many new pictures the model names correctly, day by day."
            )


def draw_phones(members: dict, found: dict, curves: dict, running: bool) -> None:
    """Draw clients and server of the sharing arm with the chosen settings."""
    name = chosen(members)
    curve = curves[name]
    count = min(study.clients, SHOWN_PHONES)
    codes = [dict(curve.get(f"phone {i}", [])) for i in range(count)]
    days = sorted(codes[-1])  # with many rounds, only some are reported
    sent = [[int(each[day]) for each in codes] for day in days]
    accuracy = dict(curve.get("test_accuracy", []))
    named = [
        f"{text.per_hundred(accuracy[day])} of 100" if day in accuracy else "" for day in (0, *days)
    ]
    told_ = [
        text.day(int(day), study.rounds, codes_, accuracy.get(day), study.clients)
        for day, codes_ in zip((0, *days), ([0] * count, *sent))
    ]
    sizes = {
        str(code): sentences.size(code)
        for code in {code for day in sent for code in day if code > 0}
    }
    title = f"Sharing {'with ' if shown == 'noises' else ''}{name}"
    st.markdown(
        f"**{title}**",
        help=(
            "The larger the dot, the more bytes. Dashed: a phone without pictures. A line: it"
            " dropped out. A cross: the server refused what it sent. How full a phone is drawn: how"
            " many pictures it has."
        ),
    )
    diagram(
        sent,
        count,
        4 * study.gradients(previewed),
        named,
        told_,
        sizes,
        live=running and len(days) > 0,
        alt=f"{study.clients} phones around a server",
        key=f"phones {shown}",
        had=pictures_on(found[name]) if name in found else [],
    )


def pictures_on(result) -> list[float]:
    """How full each drawn client is, relative to the fullest."""
    counts = result.arrays["pictures"].sum(1)[:SHOWN_PHONES]
    return [float(count) for count in counts / max(1, counts.max())]


def chosen(members: dict) -> str:
    """The arm with the page's settings, or the nearest to them."""
    same = [name for name, member in members.items() if member == study]
    shared = [name for name, member in members.items() if member.arm == "shared"]
    return (
        same[0]
        if same
        else next((name for name in shared if members[name].noise_multiplier), shared[0])
    )


def draw_found(members: dict, found: dict) -> None:
    """Draw the results when all arms are done."""
    metrics = {name: result.metrics for name, result in found.items()}
    panels.warnings(found)
    {"arms": draw_arms, "noises": draw_noises, "policies": draw_policies}[shown](
        members, found, metrics
    )
    with st.expander("All numbers", icon=":material/table_chart:"):
        st.dataframe(
            [{"": name, **text.sharing(m, study.clients)} for name, m in metrics.items()],
            hide_index=True,
        )
        st.caption(
            f"{metrics[chosen(members)]['gradients']:,} gradients;"
            f" {metrics[chosen(members)]['pictures_on_phones']:,} pictures on"
            f" {study.clients:,} phones. Bytes are those of the messages that the server has"
            " accepted, positions included. "
            + (
                f"*{ALONE}*: the mean of {found[ALONE].metrics['phones_trained']:.0f} phones. "
                if ALONE in found
                else ""
            )
            + f"With {len(previewed.test_labels):,} test pictures, an accuracy is known to within"
            f""" {
                sentences.give_or_take(
                    sentences.margin(
                        metrics[chosen(members)]["test_accuracy"], len(previewed.test_labels)
                    )
                )
            }"""
            " points; another seed moves it besides."
        )
    draw_promise(members, found)


def draw_arms(members: dict, found: dict, metrics: dict) -> None:
    """Draw accuracy against bytes, the question of report 5."""
    st.markdown(
        text.shared(
            metrics, chosen(members), study.clients, study.rounds, len(previewed.test_labels)
        )
    )
    shared = {name: sent(result) for name, result in found.items() if members[name].arm == "shared"}
    central = (metrics[CENTRAL]["bytes"] / study.clients, metrics[CENTRAL]["test_accuracy"])
    st.plotly_chart(
        charts.by_bytes(
            shared,
            {name: metrics[name]["test_accuracy"] for name in (NONE, ALONE)},
            central,
            private,
        ),
        key="bytes",
        config={"displayModeBar": False},
        alt="Accuracy over the bytes that a phone has uploaded, a line for each share",
    )
    if private and study.noised_by == "phone" and study.policy != "random":
        st.markdown(
            "With noise on every phone an upload is as large as all gradients, whatever the share:"
            " which of them are the largest would give something away."
        )
    st.caption(
        "Up and left is better: more learned from fewer bytes. The star: what one phone's pictures"
        " would weigh, and what all of them together teach. "
        + text.cheap({name: metrics[name]["bytes"] for name in shared}, metrics[CENTRAL]["bytes"])
    )


def sent(result) -> list[tuple[float, float]]:
    """(bytes per client so far, accuracy) for each round."""
    accuracy = dict(result.curves["test_accuracy"])
    return [
        (total / study.clients, accuracy[day])
        for day, total in result.curves["bytes"]
        if day in accuracy
    ]


def draw_noises(_: dict, found: dict, metrics: dict) -> None:
    """Draw accuracy against ε."""
    paths = {
        name: [
            (e, dict(result.curves["test_accuracy"])[day]) for day, e in result.curves["epsilon"]
        ]
        for name, result in found.items()
        if "epsilon" in result.curves
    }
    ends = {
        name: (result.guarantee.epsilon, metrics[name]["test_accuracy"])
        for name, result in found.items()
        if result.guarantee.epsilon is not None
    }
    st.plotly_chart(
        charts.by_epsilon(
            paths,
            ends,
            {name: metrics[name]["test_accuracy"] for name in (NONE, "clipped, no noise")},
        ),
        key="epsilon",
        config={"displayModeBar": False},
        alt="Accuracy over the ε of a participant, a line for each strength of noise",
    )
    st.caption(
        "Each thin line is one arm on its way, day by day; its thick point is its end, counted"
        f" exactly. What is hidden is a whole participant, one of {study.clients:,}: the more"
        " take part, the less the same noise hurts. With few phones, a promise worth its name"
        " leaves nothing to learn."
    )


def draw_policies(_: dict, found: dict, __: dict) -> None:
    """Compare the policies of choosing gradients."""
    st.plotly_chart(
        charts.by_bytes({name: sent(result) for name, result in found.items()}, {}, None, private),
        key="policies",
        config={"displayModeBar": False},
        alt="Accuracy over bytes, a line for each way to choose",
    )
    st.caption(
        "*The rest kept*: what was not sent today is added to tomorrow's gradients (Lin et al."
        " 2018). Random ones need no positions, so the same share weighs less; those above a"
        f" threshold (here {study.threshold:g}, of the sum over a day) are more on some days than"
        " on others. Compare at the same bytes."
    )


def draw_promise(members: dict, found: dict) -> None:
    """Draw a client's guarantee, the details, and how the results were made."""
    name = st.selectbox(
        "What is promised to a participant of",
        list(found),
        index=list(found).index(chosen(members)),
        key=f"gradient_sharing.promise {shown}",
    )
    result = found[name]
    by_phone = result.guarantee.epsilon is not None and members[name].noised_by == "phone"
    panels.odds(
        result.guarantee,
        (
            "An attacker knows that one of two sets of pictures lies on your phone. Which one?"
            if by_phone
            else (
                "An attacker wants to know whether your phone took part, or sent nothing on any"
                " day."
            )
        ),
        "Without looking at what is sent" if by_phone else "Without looking at the models",
        "With all your uploads in hand" if by_phone else "With all the models in hand",
    )
    panels.guarantee(result.guarantee)
    changed = settings_of(study, without=("arm",))
    more = {each: (members[each], found[each]) for each in found if each != name}
    panels.made(
        members[name],
        result,
        more=more,
        series=f"python -m engine series gradient_sharing {shown}{changed}",
    )


# --- report 5's table of initial models -----------------------------------------------------------


def show_table() -> None:
    """Compare a CNN from scratch and a new last layer with three optimizers."""
    models = study.table()
    live.run_button(models, unknown="")
    live.follow(models, draw_table)


def draw_table(views: dict[str, live.View]) -> None:
    """Draw bars of what has been trained."""
    live.progress(views)
    panels.warnings({name: view.result for name, view in views.items() if view.result})
    done = {
        name: [view.result.metrics["test_accuracy"]] for name, view in views.items() if view.result
    }
    running = {
        name: view.curves["test_accuracy"][-1][1]
        for name, view in views.items()
        if not view.result and view.curves.get("test_accuracy")
    }
    if done or running:
        st.plotly_chart(
            figures.beside(
                done,
                running,
                dict.fromkeys(views, "not private"),
                "New pictures named correctly, %",
            ),
            key="table",
            config={"displayModeBar": False},
            alt="Accuracy of first models",
        )
    else:
        st.image(study.sample(), width=420, alt="Some of the pictures")
    st.caption(
        "What the company has before any phone takes part: models trained on its own"
        f" {round(study.company_share * previewed.train_size):,} pictures, from scratch or as a new"
        " last layer on a network that has learned from ImageNet's photographs."
    )


if shown == "table":
    show_table()
else:
    show_together()


# --- the attack on one upload ---------------------------------------------------------------------

st.header("What one upload still shows", anchor=False)
st.markdown(
    "A phone has one picture, learns from it once, and uploads. Here is what whoever receives that"
    " upload can do: start from noise, and change it until *its* gradient looks like the one that"
    " came. They know nothing else but the model, which everybody has, and that pictures are mostly"
    " smooth. **Press Rebuild. Then share less, or add noise, and try again.**"
)
own = st.segmented_control(
    "Whose picture",
    ["theirs", "mine"],
    default="theirs",
    required=True,
    key="gradient_sharing.own",
    format_func={
        "theirs": "one of the data set",
        "mine": "a picture of my own, which is never stored",
    }.get,
)
one, two, three = st.columns(3)
with one:
    controls.category("category", previewed.classes)
raw = None
with two:
    if own == "mine":
        raw = st.file_uploader(
            "One PNG or JPEG, at most 5 MB",
            type=["png", "jpg", "jpeg"],
            max_upload_size=5,
            key="gradient_sharing.upload",
        )
    else:
        controls.below(
            "index",
            int((previewed.test_labels == controls.value("category")).sum()),
            "this class has the pictures",
        )
        controls.number("index")
with three:
    controls.choice("model")
controls.dial("leak_fraction")
controls.dial("leak_noise")


def as_above() -> None:
    """Copy the settings of the sharing above to the attack."""
    plan = study.plan()
    controls.change(
        leak_fraction=study.fraction,
        leak_policy=study.policy,
        leak_threshold=study.threshold,
        leak_noise=plan.noise_multiplier if study.noised_by == "phone" else 0.0,
        leak_clip=plan.max_grad_norm,
        layers=study.trained,
        model="initial",
    )


with st.expander(
    "More settings of the attack",
    icon=":material/tune:",
    expanded=controls.opens(
        "leak_policy",
        "leak_threshold",
        "leak_clip",
        "layers",
        "attack_steps",
        "restarts",
        "smoothness",
    ),
):
    left, right = st.columns(2)
    with left:
        for name in ("leak_policy", "layers"):
            controls.choice(name)
        if controls.value("leak_policy") == "threshold":
            controls.number("leak_threshold")
        controls.number("leak_clip", "as it is; 1 with noise")
        st.button(
            "Share as the phones above do",
            on_click=as_above,
            icon=":material/content_copy:",
            help=(
                "The first model, and their share, policy and clip norm. Noise only where each"
                " phone adds it: a server that adds noise itself has seen the upload without."
            ),
        )
    with right:
        controls.number("attack_steps", "the usual")
        controls.number("restarts", "the usual")
        controls.number("smoothness")
attack = controls.ready(Inversion)
if own == "mine" and raw is None:
    st.info(
        "Choose a picture. It is brought to the size of the others, and never stored.",
        icon=":material/upload:",
    )
    st.stop()
if raw is not None:
    shape = previewed.test_images.shape[1:]
    try:
        attack = attack.with_picture(
            uploads.decode(raw.getvalue(), size=shape[0], channels=shape[2], invert=shape[2] == 1)
        )
    except uploads.Refused as refused:
        st.error(sentences.plain(str(refused)), icon=":material/broken_image:")
        st.stop()
controls.checked(lambda: attack.pick(previewed), "picture")
live.run_button({"the attack": attack}, "Rebuild", unknown="")


def draw_attack(views: dict[str, live.View]) -> None:
    """Draw the true image, the current reconstruction, and their similarity."""
    live.progress(views, "stop-attack")
    view = views["the attack"]
    true, now, chart = st.columns([1, 1, 1.6])
    true.image(
        attack.shown(previewed), width="stretch", caption="On the phone", alt="The true picture"
    )
    if view.result is None:
        if "rebuilt" in view.pictures:
            now.image(
                view.pictures["rebuilt"],
                width="stretch",
                caption="Rebuilt so far",
                alt="The rebuilt picture as of now",
            )
        else:
            now.caption("What can be rebuilt from the upload will appear here, out of noise.")
    else:
        with now:
            scrubber(
                {
                    sentences.after(int(name[5:])): png
                    for name, png in sorted(view.pictures.items())
                    if name.startswith("film_")
                },
                "Attacker's steps",
                "The rebuilt picture",
                "rebuilding film",
            )
    if view.curves.get("psnr_db"):
        chart.plotly_chart(
            charts.rebuilding(view.curves, attack.usual("attack_steps")),
            key="rebuilding",
            config={"displayModeBar": False},
            alt="Likeness over the attacker's steps",
        )
        chart.caption(
            f"{attack.usual('restarts')} attempt{'s' if attack.usual('restarts') > 1 else ''} from"
            " different noise, one after the other. Which one counts is decided by how well it"
            " fits the upload: the attacker does not know the true picture."
        )


def draw_defences(views: dict[str, live.View]) -> None:
    """Draw the reconstructions of the same image under each of the usual defences."""
    live.progress(views, "stop-defences")
    panels.warnings(
        {name: view.result for name, view in views.items() if view.result},
        said=result.warnings if result else (),
    )
    names = list(views)
    for row in (names[:4], names[4:]):
        for column, name in zip(st.columns(4), row):
            view = views[name]
            with column:
                if "rebuilt" in view.pictures:
                    st.image(
                        view.pictures["rebuilt"],
                        width="stretch",
                        alt=f"The picture rebuilt from an upload: {name}",
                    )
                st.caption(
                    f"**{name}**"
                    + (
                        text.defended(view.result.metrics, view.result.guarantee)
                        if view.result
                        else ""
                    )
                )
    st.caption(
        "*Clipped*: the upload is shortened to a length of 0.1, which does not turn it. *Noise"
        " 0.01*: σ, in units of a clip norm of 1; the ε beside it is what that really promises. A"
        " picture that cannot be made out may still be told from another one: that is what ε is"
        " about."
    )


live.follow({"the attack": attack}, draw_attack)
result = live.look(attack).result
if result is not None:
    m = result.metrics
    st.markdown(text.rebuilt(m, result.facts, raw is not None))
    panels.warnings({"": result})
    for column, (title, value, help_) in zip(
        st.columns(4),
        (
            (
                "PSNR",
                f"{m['psnr_db']:.1f} dB",
                (
                    "Peak signal-to-noise ratio. A picture of one colour would reach"
                    f" {m['psnr_flat']:.1f} dB."
                ),
            ),
            (
                "Likeness (SSIM)",
                f"{m['ssim']:.2f}",
                "Structural similarity, 1 for the same picture.",
            ),
            (
                "Uploaded",
                f"{sentences.size(m['bytes'])}",
                f"{m['sent']:,.0f} of {m['gradients']:,.0f} gradients.",
            ),
            (
                "Noise, compared with the gradients",
                f"{sentences.times(m['noise_to_signal'])} ×",
                "Expected length of the noise over the length of what was sent.",
            ),
        ),
    ):
        column.metric(title, value, help=help_)
if controls.look("compare", "Compare", COMPARE):
    defences = attack.defences()
    live.run_button(defences, "Rebuild all", unknown="")
    live.follow(defences, draw_defences)
if result is not None:
    panels.guarantee(result.guarantee)
panels.deeper(
    {
        "The report": lambda: st.markdown(text.SHARING_REPORT),
        "Formulas": lambda: st.markdown(text.SHARING_FORMULAS),
    }
)
if result is not None:
    panels.made(attack, result, again=raw is None)
