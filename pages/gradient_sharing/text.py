"""Texts of page Gradient sharing; pure functions."""

from __future__ import annotations

from engine.core import rounding
from engine.core.rounding import epsilon
from engine.core.study import Guarantee
from engine.studies.gradient_sharing import SharingPlan
from pages.common.sentences import (
    _and,
    balanced,
    balanced_column,
    how_often,
    margin,
    plain,
    size,
    times,
)

# --- clients that share gradients -----------------------------------------------------------------


def per_hundred(share: float) -> str:
    """An accuracy in per cent as text: '96.7'."""
    return f"{100 * share:.1f}"


def shared(
    metrics: dict[str, dict[str, float]], name: str, people: int, rounds: int, tested: int
) -> str:
    """The results of sharing.

    metrics: arm → its numbers; name: the arm described; tested: number of test images.
    """
    mine, none, everything, alone = (
        metrics[name],
        metrics["no update"],
        metrics["all pictures in one place"],
        metrics["each phone alone"],
    )
    gap = 100 * (everything["test_accuracy"] - mine["test_accuracy"])
    chance = 100 * margin(everything["test_accuracy"], tested)
    beside = (
        "about as many as"
        if abs(gap) < chance
        else f"{abs(gap):.1f} {'fewer' if gap > 0 else 'more'} than"
    )
    sent, had = mine["bytes"] / people, mine["bytes_of_pictures"] / people
    more = (
        "**about as much** as its pictures would have been"
        if 0.95 < sent / had < 1.05
        else (
            f"**{times(sent / had)} times as much** as its pictures would have been"
            if sent > had
            else f"{times(100 * sent / had)} % of what its pictures would have been"
        )
    )
    worse = (
        " **That is worse than not learning at all.**"
        if mine["test_accuracy"] < none["test_accuracy"] - chance / 100
        else ""
    )
    by_itself = (
        " A phone that learns alone forgets what the first model knew, for it sees nothing but its"
        " own few pictures: it names"
        if alone["test_accuracy"] < none["test_accuracy"]
        else " A phone that learns alone names"
    )
    return (
        f"Sharing **{name}** names **{per_hundred(mine['test_accuracy'])} of 100** new pictures"
        f" correctly{balanced(mine)}, {beside} with all pictures in one place"
        f" ({per_hundred(everything['test_accuracy'])}); the first model alone names"
        f" {per_hundred(none['test_accuracy'])}.{worse}{by_itself}"
        f" {per_hundred(alone['test_accuracy'])}. In {rounds} day{'s' if rounds > 1 else ''} a"
        f" phone uploads {size(sent)}: {more} ({size(had)}, uncompressed)."
    )


def day(number: int, rounds: int, codes: list[int], accuracy: float | None, people: int) -> str:
    """The line below the diagram: who sent how much in a round."""
    if not number:
        return (
            f"{people:,} phones, each with pictures of its own. Every day each trains on them, and"
            " uploads a part of what it has learned."
            + (f" Drawn: the first {len(codes)}." if people > len(codes) else "")
        )
    counts = {
        "refused": sum(c == -2 for c in codes),
        "dropped out": sum(c == -1 for c in codes),
        "not asked": sum(c == -3 for c in codes),
        "without pictures": sum(c == 0 for c in codes),
    }
    sent = [c for c in codes if c > 0]
    others = "".join(f", {count} {what}" for what, count in counts.items() if count)
    named = (
        ""
        if accuracy is None
        else f" The model now names {per_hundred(accuracy)} of 100 new pictures correctly."
    )
    whose = f" of the {len(codes)} drawn" if people > len(codes) else ""
    return (
        f"Day {number} of {rounds}: {len(sent)}{whose} upload, {size(sum(sent))} in"
        f" all{others}.{named}"
    )


# Margins in decibels and SSIM over an image of a single colour; below both, nothing was
# reconstructed.
FLAT, STRUCTURE = 3.0, 0.25


def rebuilt(metrics: dict[str, float], facts: dict, own: bool) -> str:
    """What the attacker has found out."""
    right = (
        ("the one that you gave it" if own else "right")
        if metrics["label_found"]
        else f"wrong: {'you called it' if own else 'it is'} {plain(facts['label'])}"
    )
    by_luck = (
        f" (a blind guess is right once in {len(facts['classes'])})"
        if metrics["noise_to_signal"]
        else ""
    )
    label = (
        f"The upload points at the label **{plain(facts['guessed'])}**, which is {right}{by_luck}"
        if facts["guessed"] is not None
        else "The upload does not say what the label is, so one after the other was tried"
    )
    same = metrics["named_the_same"] == 1
    judge = (
        f"A network that knows such pictures calls {'your picture' if own else 'the true one'}"
        f" **{plain(facts['true_named'])}** and the rebuilt one"
        f" **{plain(facts['rebuilt_named'])}**"
        f"{', so it still recognises it' if same and looks(metrics) != NOTHING else ''}."
        " (It has to name something, whatever it is shown.)"
    )
    failed = (
        " **That this attack fails does not mean that all do**: nothing is promised."
        if looks(metrics) == NOTHING and not metrics["noise_to_signal"]
        else ""
    )
    return (
        f"{label}. The attempt that fits best is **{looks(metrics)}**: {metrics['psnr_db']:.1f} dB,"
        f" where a picture of a single colour would reach {metrics['psnr_flat']:.1f} dB.{failed}"
        f" {judge}"
    )


NOTHING = "hardly anything of the picture"


def looks(metrics: dict[str, float]) -> str:
    """The quality of a reconstruction in words.

    From PSNR (dB) and SSIM, compared with those of an image of a single colour.
    """
    if (
        metrics["psnr_db"] < metrics["psnr_flat"] + FLAT
        and metrics["ssim"] < metrics["ssim_flat"] + STRUCTURE
    ):
        return NOTHING
    if metrics["psnr_db"] >= 20 and metrics["ssim"] >= 0.7:
        return "a near copy"
    return (
        "recognisable"
        if metrics["psnr_db"] >= 13 or metrics["ssim"] >= 0.4
        else "a trace of the picture"
    )


def defended(m: dict[str, float], promise: Guarantee) -> str:
    """The caption of a reconstruction under a defence."""
    return f": {m['psnr_db']:.1f} dB, {size(m['bytes'])}, " + (
        "nothing promised" if promise.epsilon is None else f"ε = {epsilon(promise.epsilon)}"
    )


def sharing(m: dict[str, float], people: int) -> dict[str, str]:
    """A row of the page's table."""
    bytes_ = m.get("bytes")
    return {
        "Correct, of 100": per_hundred(m["test_accuracy"]),
        **balanced_column(m),
        "Uploaded by a phone, all days": "nothing" if bytes_ is None else size(bytes_ / people),
        "One upload": size(m["bytes_an_upload"]) if m.get("uploads") else "–",
        "Uploads": f"{m['uploads']:,}" if "uploads" in m else "–",
        "Refused": f"{m.get('refused', 0):,}",
        "Dropped out": f"{m.get('dropped', 0):,}",
        "Worst phone": per_hundred(m["worst"]) if "worst" in m else "–",
        "Best phone": per_hundred(m["best"]) if "best" in m else "–",
    }


def user_level(
    promise: Guarantee, plan: SharingPlan, rounds: int, people: int, by_phone: bool
) -> str:
    """The line below the noise slider."""
    if promise.epsilon is None:
        return "No noise: **nothing is promised to anyone**, however small the share is."
    asked = (
        "what lies on your phone, one of two sets of pictures,"
        if by_phone
        else "whether you took part"
    )
    return (
        f"Noise multiplier σ = {rounding.described(plan.noise_multiplier)}, clip norm"
        f" {plan.max_grad_norm:g}, {rounds} days: **ε = {epsilon(promise.epsilon)}** for all"
        f" pictures of one participant, one of {people:,} ({promise.accountant.split(' (')[0]})."
        f" Attackers who guess {asked} {how_often(promise.odds_mechanism)}."
    )


def dip(accuracy: list[tuple[float, float]], optimizer: str, noised: bool) -> str:
    """Why accuracy may fall below the initial model's in the first round, if it does.

    Measured on the bundled digits with two seeds per optimizer.
    """
    below = len(accuracy) > 1 and accuracy[1][1] < accuracy[0][1]
    if not below or optimizer != "adam" or noised:
        return ""
    return (
        "The first day falls below the first model, perhaps because that was made by the optimizer"
        " Adam and the phones go on with plain steps: on the bundled digits it did not, in two"
        " trials each, where SGD or RMSProp had made it."
    )


def cheap(sent: dict[str, float], had: float) -> str:
    """Why gradients may take more bytes than images. sent: arm → bytes; had: the images' bytes."""
    more = [name for name, count in sent.items() if count > had]
    if not more:
        return ""
    sends = "send" if len(more) > 1 else "sends"
    return (
        f"Sharing {_and(more)} here {sends} more than the pictures themselves weigh: gradients are"
        " as many as the model has weights, and they are sent anew every day. That is the price of"
        " not handing over the pictures."
    )


SHARING_REPORT = """
Report 5 (Bu, CS230): a company trains a first model on half of its pictures of men, women, dogs and
cats, ships it in an app, and goes on learning from users' phones by *distributed selective SGD*
(Shokri and Shmatikov 2015). Its first models, accuracy on validation pictures: a CNN from scratch
72.1 % (SGD), 74.8 % (RMSProp), 77.7 % (Adam); VGG16 with a new last layer 79.6, 81.4, 83.5 %. With
10 to 20 % of the gradients it came about as far as training on all pictures in one place; no update
was worst. Its code could not be had. *Show: first models* above is its table with ours;
docs/gradient_sharing.md says how to build the folder.

Shokri and Shmatikov on MNIST: 99.14 % sharing 10 %, 98.71 % sharing 1 %, 99.17 % with all pictures
in one place, 93.16 % alone.

What the report does not say: a fraction of the gradients is no protection. What can be rebuilt from
an upload is what the lower half of this page is about.
"""


SHARING_FORMULAS = r"""
**A day.** Phone $i$ downloads the model $w$, goes through its own pictures by SGD,
$w_i \leftarrow w_i - \eta\, g_i^t$, and adds up what it has seen: $G_i = \sum_t g_i^t$. It uploads
$u_i = S(G_i)$: the $\theta n$ entries of largest magnitude, or random ones, or those above a
threshold. The server takes $w \leftarrow w - \eta\,\eta_s \tfrac1m \sum_i u_i$.

**With a promise.** Each $u_i$ is shortened to $\lVert u_i \rVert_2 \le C$. The server adds
$\mathcal N(0, \sigma^2 C^2 I)$ to the sum and divides by the *expected* number of uploads. A
participant, blanked with all its pictures (their number stays the same and is public), moves the
sum by at most $C$: $T$ days are $T$ Gaussian mechanisms on a Poisson sample of the participants,
counted exactly (PLD). That holds whatever $S$ is: so choosing fewer gradients buys no privacy, and
noise goes to all gradients that somebody could have sent. Where *each phone* adds the noise, its
pictures replaced by others move its upload by at most $2C$: noise multiplier $\sigma/2$, every day,
no sampling.

**The attack** (Geiping et al. 2020) looks for the picture $x$ whose gradient points where the
upload does: $\min_x\; 1 - \dfrac{\langle \nabla_w \ell(x, y),\, u\rangle}{\lVert \nabla_w \ell(x,
y)\rVert\,\lVert u \rVert} + \lambda\, \mathrm{TV}(x)$, on the entries that were sent. Clipping
alone changes the length of $u$ and not its direction: this attack does not even notice.
"""
