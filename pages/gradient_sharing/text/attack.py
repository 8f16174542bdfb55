"""What was reconstructed from an upload."""

from __future__ import annotations

from engine.core.rounding import epsilon
from engine.core.study import Guarantee
from pages.common.sentences import plain, size

# Margins in decibels and SSIM over an image of a single colour; below both, nothing was
# reconstructed.
FLAT, STRUCTURE = 3.0, 0.25
NOTHING = "hardly anything of the image"


def rebuilt(metrics: dict[str, float], facts: dict, own: bool) -> str:
    """What the attacker has found out. own: the image is the visitor's."""
    quality_ = quality(metrics)
    failed = (
        " **This attack fails, but others may not**: nothing is guaranteed."
        if quality_ == NOTHING and not metrics["noise_to_signal"]
        else ""
    )
    return (
        f"{_label(metrics, facts, own)} The attempt that fits best is **{quality_}**:"
        f" {metrics['psnr_db']:.1f} dB, where an image of a single colour would reach"
        f" {metrics['psnr_flat']:.1f} dB.{failed} {_recognised(metrics, facts, own)}"
    )


def _label(metrics: dict[str, float], facts: dict, own: bool) -> str:
    """Whether the upload reveals the label."""
    if facts["guessed"] is None:
        return "The upload does not reveal the label, so all labels were tried."
    chance = (
        f" (a random guess is right once in {len(facts['classes'])})"
        if metrics["noise_to_signal"]
        else ""
    )
    if metrics["label_found"]:
        verdict = "the label that you chose" if own else "right"
    else:
        verdict = f"wrong: {'you chose' if own else 'it is'} {plain(facts['label'])}"
    return (
        f"The upload points to the label **{plain(facts['guessed'])}**, which is {verdict}{chance}."
    )


def _recognised(metrics: dict[str, float], facts: dict, own: bool) -> str:
    """What a classifier makes of both images."""
    same = metrics["named_the_same"] == 1 and quality(metrics) != NOTHING
    return (
        "A classifier trained on such images, which always gives an answer, calls"
        f" {'your image' if own else 'the original'} **{plain(facts['true_named'])}** and the"
        f" reconstruction **{plain(facts['rebuilt_named'])}**"
        f"{': it still recognises the image' if same else ''}."
    )


def quality(metrics: dict[str, float]) -> str:
    """The quality of a reconstruction in words.

    From PSNR (dB) and SSIM, compared with those of an image of a single colour.
    """
    psnr, ssim = metrics["psnr_db"], metrics["ssim"]
    if psnr < metrics["psnr_flat"] + FLAT and ssim < metrics["ssim_flat"] + STRUCTURE:
        return NOTHING
    if psnr >= 20 and ssim >= 0.7:
        return "nearly identical"
    return "recognisable" if psnr >= 13 or ssim >= 0.4 else "a trace of the image"


def attempts(count: int) -> str:
    """Which of the attempts counts."""
    if count == 1:
        return "One attempt, starting from noise."
    return (
        f"{count} attempts, each from different noise. The one that fits the upload best counts,"
        " because the attacker does not know the true image."
    )


def defended(m: dict[str, float], promise: Guarantee) -> str:
    """The caption of a reconstruction under a defence."""
    return f": {m['psnr_db']:.1f} dB, {size(m['bytes'])}, " + (
        "nothing guaranteed" if promise.epsilon is None else f"ε = {epsilon(promise.epsilon)}"
    )
