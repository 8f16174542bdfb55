"""The attack on one upload: an image is reconstructed from its gradients."""

from __future__ import annotations

import streamlit as st

from engine.core.study import Result
from engine.studies.gradient_sharing import GradientSharing, Inversion
from pages.common import live, panels, sentences
from pages.common.controls import Controls
from pages.common.scrubber import film, scrubber
from pages.gradient_sharing import attack_settings, charts, defences, text

ATTACK = "the attack"
FIELDS = attack_settings.FIELDS
INTRO = (
    "A phone trains once on one image and uploads its gradients. Whoever receives them can start"
    " from noise and change it until *its* gradients match the upload. This takes only the public"
    " model and the knowledge that images are mostly smooth. **Press Reconstruct. Then share less,"
    " or add noise, and try again.**"
)


def show(controls: Controls, study: GradientSharing, previewed) -> None:
    """Choose an image, attack it, and compare defences. study: the sharing above."""
    st.header("Reconstruct a photo from one upload", anchor=False)
    st.markdown(INTRO)
    attack = attack_settings.draw(controls, study, previewed)
    own = not attack.stored()
    live.run_button({ATTACK: attack}, "Reconstruct", unknown="")
    live.follow({ATTACK: attack}, lambda views: draw(attack, previewed, views[ATTACK]))
    result = live.look(attack).result
    if result is not None:
        draw_result(result, own)
    defences.show(controls, attack, said=result.warnings if result is not None else ())
    if result is not None:
        panels.guarantee(result.guarantee)
    panels.deeper(
        {
            "Report 5": lambda: st.markdown(text.REPORT),
            "Formulas": lambda: st.markdown(text.FORMULAS),
        }
    )
    if result is not None:
        panels.made(attack, result, again=not own)


def draw(attack: Inversion, previewed, view: live.View) -> None:
    """Draw the true image, the current reconstruction, and their similarity."""
    live.progress({ATTACK: view}, "stop-attack")
    true, now, chart = st.columns([1, 1, 1.6])
    true.image(
        attack.shown(previewed), width="stretch", caption="On the phone", alt="The true image"
    )
    with now:
        draw_reconstruction(view)
    if view.curves.get("psnr_db"):
        with chart:
            panels.chart(
                charts.rebuilding(view.curves, attack.usual("attack_steps")),
                key="rebuilding",
                alt="Similarity over the attacker's steps",
            )
            st.caption(text.attempts(attack.usual("restarts")))


def draw_reconstruction(view: live.View) -> None:
    """Draw the film of the reconstruction, or how far it is."""
    if view.result is not None:
        scrubber(
            film(view.images),
            "Attacker's steps",
            "The reconstructed image",
            "rebuilding film",
        )
    elif "rebuilt" in view.images:
        st.image(
            view.images["rebuilt"],
            width="stretch",
            caption="Reconstructed so far",
            alt="The reconstructed image as of now",
        )
    else:
        st.caption("The reconstruction appears here, starting from noise.")


def draw_result(result: Result, own: bool) -> None:
    """Draw what the attacker has found out. own: the image is the visitor's."""
    m = result.metrics
    st.markdown(text.rebuilt(m, result.facts, own))
    panels.warnings({"": result})
    psnr, ssim, size, noise = st.columns(4)
    psnr.metric(
        "PSNR",
        f"{m['psnr_db']:.1f} dB",
        help=(
            "Peak signal-to-noise ratio. An image of a single colour would reach"
            f" {m['psnr_flat']:.1f} dB."
        ),
    )
    ssim.metric(
        "Similarity (SSIM)",
        f"{m['ssim']:.2f}",
        help="Structural similarity: 1 for identical images.",
    )
    size.metric(
        "Uploaded",
        sentences.size(m["bytes"]),
        help=f"{m['sent']:,.0f} of {m['gradients']:,.0f} gradients.",
    )
    noise.metric(
        "Noise to signal",
        f"{sentences.times(m['noise_to_signal'])} ×",
        help="Expected norm of the noise, divided by the norm of what was sent.",
    )
