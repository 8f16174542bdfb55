"""Membership inference with LiRA (Carlini et al. 2022).

"Membership Inference Attacks From First Principles". numpy; nothing here trains. The attacker
trains *shadow* networks in the same way as the target, each with an image in or out by a coin flip.
The networks' confidence in an image, when they were trained on it and when not, gives two normal
distributions; the target's confidence tells which of them fits better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

FALSE_ALARMS = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 81)])  # false positive rates
LEAST_SPREAD = 1e-3  # lower bound on the standard deviation of log odds, in case all shadows agree


def confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log odds of the true class, (n, classes) and (n,) → (n,): log p/(1 − p).

    They are nearly normal over networks (Carlini et al. 2022, section IV). NaN if a logit is NaN: a
    network that diverged.
    """
    logits = np.nan_to_num(np.asarray(logits, np.float64), nan=np.nan, posinf=1e30, neginf=-1e30)
    right = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    highest = others.max(1)
    return right - highest - np.log(np.exp(others - highest[:, None]).sum(1))


def likelihood_ratio(target: np.ndarray, shadows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log likelihood ratio of "in" to "out" for each image, (n,).

    target (n,), shadows (n, k): confidences; members (n, k) bool. Means are per image, standard
    deviations common to all images, which is better for few shadows (section VI). 0 for an image
    that all or no shadows were trained on. With equal spreads and prior odds, 0 is the decision
    threshold: no threshold is tuned on the target.
    """
    known, unknown = (_mean_and_spread(shadows, mask) for mask in (members, ~members))
    usable = np.isfinite(known[0]) & np.isfinite(unknown[0])
    score = stats.norm.logpdf(target, known[0], known[1]) - stats.norm.logpdf(
        target, unknown[0], unknown[1]
    )
    return np.where(usable, score, 0.0)


def _mean_and_spread(shadows: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Each image's mean over its masked shadows, (n,), and the standard deviation over all images.

    The mean is NaN without any masked shadow.
    """
    count = mask.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(mask, shadows, 0.0).sum(1) / count
    off = np.where(mask, shadows - mean[:, None], 0.0)[count > 1]
    freedom = max(1, int((count[count > 1] - 1).sum()))
    return mean, max(LEAST_SPREAD, float(np.sqrt((off**2).sum() / freedom)))


def each_against_the_others(
    shadows: np.ndarray, members: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """The score (n, k) of each shadow, attacked with the help of the others.

    A shadow's members are known and were drawn by coin flips. groups (k,): shadows of one group
    were trained with the same batches, which no attacker would know, so they do not help against
    each other. Raises ValueError if all are in one group.
    """
    if len(np.unique(groups)) < 2:
        raise ValueError("shadows of a single group: there is nobody to help against any of them")

    def rest(k: int) -> np.ndarray:
        return np.flatnonzero(groups != groups[k])

    return np.stack(
        [
            likelihood_ratio(shadows[:, k], shadows[:, rest(k)], members[:, rest(k)])
            for k in range(shadows.shape[1])
        ],
        1,
    )


def roc(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """True positive rates (82,) at the false positive rates FALSE_ALARMS.

    Each uses the best threshold within its false positive rate. scores and members may have any
    matching shapes.
    """
    scores, members = scores.ravel(), members.ravel()
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    allowed = np.floor(FALSE_ALARMS * len(outside) + 1e-9).astype(int)  # number of false alarms
    # The threshold is the highest score that would be one false alarm too many; if all may be false
    # alarms, there is none.
    thresholds = np.where(
        allowed >= len(outside), -np.inf, outside[np.maximum(len(outside) - 1 - allowed, 0)]
    )
    return 1 - np.searchsorted(inside, thresholds, side="right") / len(inside)


def area(scores: np.ndarray, members: np.ndarray) -> float:
    """Area under the ROC curve: 0.5 means no information, 1 perfect separation."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(members.ravel(), scores.ravel()))


def right_guesses(scores: np.ndarray, members: np.ndarray) -> float:
    """Accuracy of guessing membership by the sign of the score, at even prior odds."""
    scores, members = scores.ravel(), members.ravel()
    tie = 0.5 * (scores == 0)
    return float((((scores > 0) + tie)[members].mean() + ((scores < 0) + tie)[~members].mean()) / 2)


# --- how much chance affects a figure measured over networks and images ---------------------------


@dataclass(frozen=True)
class Measured:
    """A figure over (images, networks), and the influence (n, k) of each entry, which sums to 0.

    rare: additional variance where few are counted, which gives a margin even if none was found
    (Agresti and Coull 1998). least: lower bound on the variance, also if no guess was wrong.
    """

    value: float
    moved: np.ndarray
    rare: float = 0.0
    least: float = 0.0


def area_of(scores: np.ndarray, members: np.ndarray) -> Measured:
    """Area under the ROC curve of all entries together, (n, k) both.

    An entry's influence is its rank among the entries of the other kind.
    """
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])

    def below(found, side):
        return np.searchsorted(found, scores, side) / len(found)

    def among(found):
        return (below(found, "left") + below(found, "right")) / 2

    value = area(scores, members)
    member = (among(outside) - value) / len(inside)
    other = (1 - among(inside) - value) / len(outside)
    return Measured(value, np.where(members, member, other), least=_unseen(scores))


def guesses_of(scores: np.ndarray, members: np.ndarray) -> Measured:
    """`right_guesses` of all entries together, (n, k) both."""
    right = np.where(scores == 0, 0.5, (scores > 0) == members)
    moved = np.where(members, _off(right, members), _off(right, ~members)) / 2
    return Measured(right_guesses(scores, members), moved, least=_unseen(scores))


def found_of(scores: np.ndarray, members: np.ndarray, share: float) -> Measured:
    """True positive rate at this false positive rate, (n, k) both.

    One more false alarm moves the threshold, so its influence is the slope of the ROC curve there.
    """
    curve = roc(scores, members)

    def at(alarms):
        return float(np.interp(alarms, FALSE_ALARMS, curve))

    twice, found = min(1.0, 2 * share), at(share)
    # A concave curve is here at least as steep as its remainder and at most as steep as its
    # beginning.
    flattest, steepest = (1 - found) / (1 - share), found / share
    slope = max((at(twice) - at(share / 2)) / (twice - share / 2), flattest)
    slope = min(slope, max(steepest, flattest))
    over = (scores > np.quantile(scores[~members], 1 - share)).astype(float)
    moved = np.where(members, _off(over, members), -slope * _off(over, ~members))
    return Measured(found, moved, 2 / float(members.sum()) ** 2)


def _unseen(scores: np.ndarray) -> float:
    """Variance that remains if no error was observed on (images, networks).

    The margin is about three in the number of images (the rule of three; Hanley and Lippman-Hand
    1983).
    """
    return 2 / len(scores) ** 2


def _off(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Each value's contribution to the mean of the chosen values, minus that mean's own."""
    return (values - values[chosen].mean()) / chosen.sum()


def margin(found: Measured) -> float:
    """Half the width of a 95 % confidence interval over images and networks; NaN if its inputs are.

    Networks attacked with each other's help are not independent: a chance similarity of a pair on
    an image counts for both, and networks that share batches were equally lucky with an image.
    Variances are therefore added over images, with all networks on one image as a unit, and over
    networks, with what both count subtracted once (two-way clustering; Cameron, Gelbach and Miller
    2011). Student's t, with as many degrees of freedom as the networks' part of the variance leaves
    (Satterthwaite 1946).
    """
    moved, (images, networks) = found.moved, found.moved.shape
    by_image = images / (images - 1) * float((moved.sum(1) ** 2).sum())
    by_network = networks / (networks - 1) * float((moved.sum(0) ** 2).sum())
    more = by_network - float((moved**2).sum())
    variance = by_image + found.rare + float(np.maximum(0.0, more))  # np.maximum keeps NaN
    variance = float(np.maximum(variance, found.least))
    if not variance > 0:
        return variance
    # large if the networks' part is 0: nearly the normal distribution
    freedom = (networks - 1) / max(by_network / variance, 1e-6) ** 2
    return float(stats.t.isf(0.025, freedom)) * variance**0.5
