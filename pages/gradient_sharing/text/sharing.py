"""What clients have learned together, what they have sent, and what they are guaranteed."""

from __future__ import annotations

from engine.core import rounding
from engine.core.rounding import epsilon
from engine.core.study import Guarantee
from engine.studies.gradient_sharing import ARMS, SharingPlan
from pages.common.sentences import (
    _and,
    balanced,
    balanced_column,
    how_often,
    margin,
    size,
    times,
)

Metrics = dict[str, float]


def per_cent(share: float) -> str:
    """An accuracy in per cent as text: '96.7'."""
    return f"{100 * share:.1f}"


def shared(metrics: dict[str, Metrics], name: str, people: int, rounds: int, tested: int) -> str:
    """The results of sharing.

    metrics: arm → its numbers; name: the arm described; people: the number of clients; tested: that
    of test images.
    """
    mine, none, everything, alone = (
        metrics[arm] for arm in (name, ARMS["none"], ARMS["centralised"], ARMS["alone"])
    )
    accuracy, first = mine["test_accuracy"], none["test_accuracy"]
    chance = margin(everything["test_accuracy"], tested)
    worse = ": **sharing made it worse**" if accuracy < first - chance else ""
    forgets = (
        ", because it forgets what the initial model knew" if alone["test_accuracy"] < first else ""
    )
    return (
        f"Sharing **{name}** reaches **{per_cent(accuracy)} %** accuracy{balanced(mine)},"
        f" {_beside(accuracy - everything['test_accuracy'], chance)} training on all images in one"
        f" place ({per_cent(everything['test_accuracy'])} %). The initial model alone reaches"
        f" {per_cent(first)} %{worse}. A phone that trains alone reaches"
        f" {per_cent(alone['test_accuracy'])} %{forgets}. {_sent(mine, people, rounds)}"
    )


def _beside(gap: float, chance: float) -> str:
    """A difference of accuracies in words. chance: half the width of its interval."""
    if abs(gap) < chance:
        return "about the same as"
    return f"{100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'}"


def _sent(mine: Metrics, people: int, rounds: int) -> str:
    sent, had = mine["bytes"] / people, mine["bytes_of_images"] / people
    if 0.95 < sent / had < 1.05:
        compared = "**about as much** as its images"
    elif sent > had:
        compared = f"**{times(sent / had)} times as much** as its images"
    else:
        compared = f"{times(100 * sent / had)} % of its images"
    return (
        f"In {rounds} round{'s' if rounds > 1 else ''} a phone uploads {size(sent)}, {compared}"
        f" ({size(had)}, uncompressed)."
    )


def round_text(
    number: int, rounds: int, codes: list[int], accuracy: float | None, people: int
) -> str:
    """The line below the diagram: who sent how much in a round.

    codes: bytes or a code below 1 for each client drawn; people: the number of clients.
    """
    if not number:
        drawn = f" Drawn: the first {len(codes)}." if people > len(codes) else ""
        return (
            f"{people:,} phones (clients), each with its own images. In every round, each trains on"
            f" them and uploads some of the gradients.{drawn}"
        )
    counts = {
        "refused": sum(c == -2 for c in codes),
        "dropped out": sum(c == -1 for c in codes),
        "not sampled": sum(c == -3 for c in codes),
        "without images": sum(c == 0 for c in codes),
    }
    sent = [c for c in codes if c > 0]
    others = "".join(f", {count} {what}" for what, count in counts.items() if count)
    named = "" if accuracy is None else f" Accuracy is now {per_cent(accuracy)} %."
    whose = f" of the {len(codes)} drawn" if people > len(codes) else ""
    return (
        f"Round {number} of {rounds}: {len(sent)}{whose} upload, {size(sum(sent))} in"
        f" all{others}.{named}"
    )


def row(m: Metrics, people: int) -> dict[str, str]:
    """A row of the page's table."""
    bytes_ = m.get("bytes")
    return {
        "Accuracy, %": per_cent(m["test_accuracy"]),
        **balanced_column(m),
        "Uploaded per client": "nothing" if bytes_ is None else size(bytes_ / people),
        "One upload": size(m["bytes_an_upload"]) if m.get("uploads") else "–",
        "Uploads": f"{m['uploads']:,}" if "uploads" in m else "–",
        "Refused": f"{m.get('refused', 0):,}",
        "Dropped out": f"{m.get('dropped', 0):,}",
        "Worst client": per_cent(m["worst"]) if "worst" in m else "–",
        "Best client": per_cent(m["best"]) if "best" in m else "–",
    }


def user_level(
    promise: Guarantee, plan: SharingPlan, rounds: int, people: int, by_client: bool
) -> str:
    """The line below the noise slider. by_client: each client adds the noise itself."""
    if promise.epsilon is None or promise.odds_mechanism is None:
        return (
            "Without noise, **nothing is guaranteed to anyone**, however small the share of the"
            " gradients is."
        )
    asked = "which of two sets of images is on your phone" if by_client else "whether you took part"
    return (
        f"σ = {rounding.described(plan.noise_multiplier)}, clip norm {plan.max_grad_norm:g},"
        f" {rounds} rounds: **ε = {epsilon(promise.epsilon)}** for all images of one client,"
        f" one of {people:,} ({promise.accountant.split(' (')[0]}). Attackers who guess {asked}"
        f" {how_often(promise.odds_mechanism)}."
    )


def dip(accuracy: list[tuple[float, float]], optimizer: str, noised: bool) -> str:
    """Why accuracy may fall below the initial model's in the first round, if it does.

    Measured on the bundled digits with two seeds per optimizer.
    """
    below = len(accuracy) > 1 and accuracy[1][1] < accuracy[0][1]
    if not below or optimizer != "adam" or noised:
        return ""
    return (
        "Accuracy first falls, perhaps because Adam trained the initial model and the phones use"
        " plain SGD: after SGD or RMSProp it did not (bundled digits, two seeds each)."
    )


def cheap(sent: dict[str, float], had: float) -> str:
    """Why gradients may take more bytes than images. sent: arm → bytes; had: the images' bytes."""
    more = [name for name, count in sent.items() if count > had]
    if not more:
        return ""
    return (
        f"Sharing {_and(more)} here {'send' if len(more) > 1 else 'sends'} more bytes than the"
        " images have: there is a gradient for every weight, in every round. That is the price of"
        " keeping the images."
    )
