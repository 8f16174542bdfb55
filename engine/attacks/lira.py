"""Membership attacks: LiRA (Carlini et al. 2022, "Membership Inference Attacks From First
Principles"). numpy; nothing here trains.

The attacker trains *shadow* networks as the target was trained, each with a picture in or left out
by a coin flip. How sure networks are of a picture when they knew it, and when they did not, gives
two bell curves; how sure the target is says which of them fits better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

FALSE_ALARMS = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 81)])  # where ROC curves are kept
LEAST_SPREAD = 1e-3  # of log odds: below it all shadows say the same


def confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log odds of the right class, (n, classes) and (n,) → (n,): log p/(1 − p), which is nearly
    normal over networks (Carlini et al. 2022, section IV).

    NaN where an answer is none: a network that diverged.
    """
    logits = np.nan_to_num(np.asarray(logits, np.float64), nan=np.nan, posinf=1e30, neginf=-1e30)
    right = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    highest = others.max(1)
    return right - highest - np.log(np.exp(others - highest[:, None]).sum(1))


def likelihood_ratio(target: np.ndarray, shadows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log likelihood ratio "in" against "out" for each picture: target (n,), shadows (n, k) their
    confidences, members (n, k) bool → (n,).

    Means are each picture's own, spreads common to all pictures, which is better for few shadows
    (section VI). 0 for a picture that all or no shadows knew. With equal spreads and odds, 0 is
    where the attacker changes his mind: no threshold is tuned on the target.
    """
    known, unknown = (_mean_and_spread(shadows, mask) for mask in (members, ~members))
    told = np.isfinite(known[0]) & np.isfinite(unknown[0])
    score = stats.norm.logpdf(target, known[0], known[1]) - stats.norm.logpdf(
        target, unknown[0], unknown[1]
    )
    return np.where(told, score, 0.0)


def _mean_and_spread(shadows: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """(n,) each picture's mean over its masked shadows (NaN without any), and the deviation from it
    over all pictures.
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
    """(n, k) the score of each shadow, attacked with the help of the others.

    Its members are known, and were drawn by coin flips.

    groups (k,): shadows of one group were trained with the same batches, which no attacker would
    know; they do not help against each other. Raises ValueError where all are of one group.
    """
    if len(np.unique(groups)) < 2:
        raise ValueError("shadows of a single group: there is nobody to help against any of them")
    rest = lambda k: np.flatnonzero(groups != groups[k])
    return np.stack(
        [
            likelihood_ratio(shadows[:, k], shadows[:, rest(k)], members[:, rest(k)])
            for k in range(shadows.shape[1])
        ],
        1,
    )


def roc(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(82,) the share of members found at FALSE_ALARMS: the best threshold with no more false
    alarms. Any shapes that fit each other.
    """
    scores, members = scores.ravel(), members.ravel()
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    allowed = np.floor(FALSE_ALARMS * len(outside) + 1e-9).astype(int)  # false alarms
    # Above the highest score that would be one alarm too many; where all may be alarms, above
    # nothing.
    thresholds = np.where(
        allowed >= len(outside), -np.inf, outside[np.maximum(len(outside) - 1 - allowed, 0)]
    )
    return 1 - np.searchsorted(inside, thresholds, side="right") / len(inside)


def area(scores: np.ndarray, members: np.ndarray) -> float:
    """Area under the ROC curve: 0.5 tells nothing, 1 all."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(members.ravel(), scores.ravel()))


def right_guesses(scores: np.ndarray, members: np.ndarray) -> float:
    """With even odds before, how often the sign of the score guesses right."""
    scores, members = scores.ravel(), members.ravel()
    tie = 0.5 * (scores == 0)
    return float((((scores > 0) + tie)[members].mean() + ((scores < 0) + tie)[~members].mean()) / 2)


# --- how far chance alone moves what was measured over networks and pictures ----------------------


@dataclass(frozen=True)
class Measured:
    """A figure over (pictures, networks), and how far each entry of the table moved it, (n, k), in
    all 0.

    rare: variance besides, where few are counted, so that none at all has a margin too (Agresti and
    Coull 1998). least: the variance is no smaller, also where nobody was guessed wrong.
    """

    value: float
    moved: np.ndarray
    rare: float = 0.0
    least: float = 0.0


def area_of(scores: np.ndarray, members: np.ndarray) -> Measured:
    """Area under the ROC curve of all entries together, (n, k) both; an entry moves it by its rank
    among the others.
    """
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    below = lambda found, side: np.searchsorted(found, scores, side) / len(found)
    among = lambda found: (below(found, "left") + below(found, "right")) / 2
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
    """Share of members found at this share of false alarms, (n, k) both. A false alarm more moves
    the threshold: by the curve's slope there.
    """
    curve = roc(scores, members)
    at = lambda alarms: float(np.interp(alarms, FALSE_ALARMS, curve))
    twice, found = min(1.0, 2 * share), at(share)
    # A concave curve is no flatter here than on from here, and no steeper than up to here.
    flattest, steepest = (1 - found) / (1 - share), found / share
    slope = max((at(twice) - at(share / 2)) / (twice - share / 2), flattest)
    slope = min(slope, max(steepest, flattest))
    over = (scores > np.quantile(scores[~members], 1 - share)).astype(float)
    moved = np.where(members, _off(over, members), -slope * _off(over, ~members))
    return Measured(found, moved, 2 / float(members.sum()) ** 2)


def _unseen(scores: np.ndarray) -> float:
    """Variance that remains where no error was seen on (pictures, networks): the margin is about
    three in so many pictures (the rule of three; Hanley and Lippman-Hand 1983).
    """
    return 2 / len(scores) ** 2


def _off(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Each value's part of the chosen ones' mean, less that mean's own."""
    return (values - values[chosen].mean()) / chosen.sum()


def margin(found: Measured) -> float:
    """Half the width of a 95 % interval of a figure over pictures and networks; NaN where what it
    rests on is no number.

    Networks attacked with each other's help are not independent: one pair's chance likeness on a
    picture speaks for both, and those that share batches have had the same luck with a picture. So
    variances are added up over pictures, with all networks on one picture as a unit, and over
    networks, with what both count taken off once (two-way clusters; Cameron, Gelbach and Miller
    2011). Student's t, with as many degrees of freedom as the networks' part of the variance leaves
    (Satterthwaite 1946).
    """
    moved, (pictures, networks) = found.moved, found.moved.shape
    by_picture = pictures / (pictures - 1) * float((moved.sum(1) ** 2).sum())
    by_network = networks / (networks - 1) * float((moved.sum(0) ** 2).sum())
    more = by_network - float((moved**2).sum())
    variance = by_picture + found.rare + float(np.maximum(0.0, more))  # keeps NaN
    variance = float(np.maximum(variance, found.least))
    if not variance > 0:
        return variance
    # 0: nothing but the normal law
    freedom = (networks - 1) / max(by_network / variance, 1e-6) ** 2
    return float(stats.t.isf(0.025, freedom)) * variance**0.5
