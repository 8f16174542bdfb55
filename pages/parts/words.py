"""The sentences of the pages: odds, guarantees, times and sizes in plain words.

Pure functions, text only.
"""

from __future__ import annotations

import math
import re

from engine.core import rounding
from engine.core.parameters import Spec
from engine.core.rounding import at_most, epsilon, of_hundred  # bounds, rounded to the honest side
from engine.core.study import Guarantee, Result
from engine.studies.fidelity.fidelity import doubt


def plain(text: str) -> str:
    """Text from elsewhere (a URL, a file's name, an error), so that Markdown takes none of it for
    markup.
    """
    text = re.sub(r"([\\`*_{}\[\]()#+\-!|<>$~:])", r"\\\1", text)
    # a word joiner: no link is made of an address either
    return re.sub(r"(?i)(www|@)", lambda found: found[0] + "\u2060", text)


def named(message: str, specs: dict[str, Spec]) -> str:
    """A refusal as a page says it: the command line's name of the field replaced by the words that
    stand beside its widget.
    """
    name, colon, rest = message.partition(": ")
    return f"{specs[name].title}{colon}{rest}" if colon and name in specs else message


def seconds(value: float) -> str:
    """A duration a person would say: 'under a second', 'about 12 seconds', 'about 3 minutes'."""
    if value < 1:
        return "under a second"
    if value < 90:
        whole = max(1, round(value))
        return f"about {whole} second{'s' if whole > 1 else ''}"
    return (
        f"about {round(value / 60)} minutes"
        if value < 5400
        else f"about {round(value / 3600)} hours"
    )


def after(steps: int) -> str:
    """'after 1 step', 'after 25 steps'."""
    return f"after {steps:,} step{'s' if steps != 1 else ''}"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000


def odds(guarantee: Guarantee, blind: str, seeing: str) -> str:
    """The odds sentence: how often an attacker is right when blind, by a coin flip, and when seeing
    what was released.
    """
    start = f"{blind}, an attacker who has no idea is right 50 times in 100: a coin flip."
    if guarantee.epsilon is None or guarantee.odds_mechanism is None:
        return f"{start} {seeing}, **nothing is promised**: they may be certain."
    return f"{start} {seeing}, they {how_often(guarantee.odds_mechanism)}."


def how_often(odds: float) -> str:
    """Odds in [0.5, 1] → 'are right at most **56 times in 100**', and what that comes to at the
    upper end.
    """
    n = of_hundred(odds)
    if n < 100:
        return f"are right at most **{n} times in 100**"
    return (
        "can be **all but certain**"
        if odds > 1 - 1e-6
        else "may be right more than **99 times in 100**"
    )


def times(value: float) -> str:
    """A factor as a person says it: '0.54', '7', '160', '1,400'."""
    if value < 10:
        return f"{value:.2g}"
    digits = len(str(int(value))) - 2  # two leading digits say enough
    return f"{round(value, -digits):,.0f}"


def odds_detail(guarantee: Guarantee) -> str:
    """Both odds, exact: for any method with this (ε, δ), and for this one."""
    if guarantee.odds_mechanism > 1 - 5e-5:
        return (
            f"At ε = {epsilon(guarantee.epsilon)} the noise protects nobody against such an"
            " attacker: they may err less than once in 20,000 times."
        )
    return (
        "Two bounds, for whoever starts from even odds. Some method with ε ="
        f" {epsilon(guarantee.epsilon)}, δ = {rounding.chosen(guarantee.delta)} might leave"
        f" {at_most(guarantee.odds_any, 2, times=100)} in 100; this one, whose noise is known"
        " exactly, leaves at most"
        f" {at_most(guarantee.odds_mechanism, 2, times=100)}.{_by_chance(guarantee)}"
    )


def _by_chance(guarantee: Guarantee) -> str:
    """Part of the odds is the luck of not having been drawn, which is no protection for whoever
    was, and none from what is released of all.
    """
    known = (guarantee.sample_rate, guarantee.steps, guarantee.odds_undrawn)
    if None in known or guarantee.sample_rate >= 1:
        return ""
    never = (1 - guarantee.sample_rate) ** guarantee.steps
    if never < 0.01:
        return ""
    whom = "participants" if "participant" in guarantee.unit else "pictures"
    told = (
        f" Steps draw at random, and {rounding.at_least(never, 0, times=100)} in 100 {whom} were"
        " never drawn at all"
    )
    others = guarantee.odds_undrawn > 1 - never / 2 + 1e-9
    if of_hundred(guarantee.odds_undrawn) == 100:
        if others:
            return (
                f"{told}; but something is released of all besides: this luck alone protects"
                " nobody."
            )
        return f"{told}: so few that this luck alone protects hardly anybody."
    besides = ", with the noise on what is released of all besides," if others else ""
    most = of_hundred(guarantee.odds_undrawn)
    return f"{told}: that alone{besides} keeps the attacker to at most {most} in 100."


def told_apart(metrics: dict[str, float], promise: Guarantee) -> str:
    """What one attack has found on page Synthesis, an area under a ROC curve, beside what is
    allowed to such areas; and that odds are another question.
    """
    right = f"{100 * metrics['membership_features']:.0f}"
    found = (
        "Of a training picture and a held-out one, the attack above names the right one"
        f" **{right}** times in 100 (50 is a coin flip). That is the area under its ROC curve."
    )
    if promise.epsilon is None:
        return f"{found} It is what one attack found. Nothing is promised: another may find more."
    mine, any_ = of_hundred(metrics["area_mechanism"]), of_hundred(metrics["area_any"])
    return (
        f"{found} Take a picture's score in a training that it was part of, and its score in"
        " another training that it was not part of. Behind this noise, no attack's scores tell the"
        f" two apart with an area above **{mine}** in 100; behind any method with ε ="
        f" {epsilon(promise.epsilon)}, with none above {any_}. Training and held-out pictures may"
        " differ in other ways, too, which an attack may use where nothing leaks. What follows is"
        " about another question, yes or no about a single picture, which has a bound of its own."
    )


def margin_of_ranks(members: int, others: int) -> float:
    """Half the width of the 95 % interval of an area under a ROC curve near chance (Mann and
    Whitney 1947), in [0, 1].
    """
    return 1.96 * math.sqrt((members + others + 1) / (12 * members * others))


def margin(share: float, count: int) -> float:
    """Half the width of the 95 % interval of a share seen in `count` draws (Wilson 1927), in [0,
    1].
    """
    z = 1.96
    return (
        z
        / (1 + z * z / count)
        * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    )


def give_or_take(margin: float, times: int = 100, digits: int = 1) -> str:
    """Half the width of an interval, in hundredths unless `times` says otherwise: rounded up, so
    that what is shown is never narrower, and never 0 where it is not.
    """
    return at_most(margin, digits, times=times)


# noise multiplier → (ε, accuracy) of its finished seeds
Ends = dict[float, list[tuple[float, float]]]


def least_epsilon(
    means: list[tuple[float, float, float]], ends: Ends, wanted: float, open_: float | None = None
) -> str:
    """What reached an accuracy with the least ε, and what to try next. means: (ε, mean accuracy,
    noise multiplier), by ε; open_: accuracy without privacy.
    """
    reached = [
        (epsilon_, accuracy, noise) for epsilon_, accuracy, noise in means if accuracy >= wanted
    ]
    if not reached:
        best = max(means, key=lambda found: found[1])
        told = (
            f"None of what has run reached {100 * wanted:.1f} %: the best was {100 * best[1]:.2f} %"
            f" at ε = {epsilon(best[0])}. "
        )
        if open_ is not None and open_ < wanted:
            return (
                f"{told}Without privacy it is {100 * open_:.2f} %, so less noise will hardly do:"
                " take a data set with more pictures, or another network."
            )
        return f"{told}Take less noise, more epochs, or a data set with more pictures."
    least = reached[0]
    below = [found for found in means if found[0] < least[0]]
    told = (
        f"ε = **{epsilon(least[0])}** (σ = {least[2]:g}) reached"
        f" {spread([y for _, y in ends[least[2]]])}."
    )
    if not below:
        return f"{told} That was the most private of all that have run: a smaller ε may do as well."
    return (
        f"{told} ε = {epsilon(below[-1][0])} did not ({100 * below[-1][1]:.2f} %). Try next: ε ≈"
        f" {math.sqrt(least[0] * below[-1][0]):.2g}."
    )


def most_accuracy(means: list[tuple[float, float, float]], ends: Ends, budget: float) -> str:
    """The best accuracy within a budget."""
    within = [found for found in means if found[0] <= budget]
    if not within:
        return f"Nothing that has run spends as little: the least was ε = {epsilon(means[0][0])}."
    best = max(within, key=lambda found: found[1])
    return (
        f"**{100 * best[1]:.2f} %** was the most, at σ = {best[2]:g} (ε = {epsilon(best[0])}):"
        f" {spread([y for _, y in ends[best[2]]])}."
    )


def spread(values: list[float]) -> str:
    """Accuracies of several seeds: '97.90 % (one seed)', '97.90 % (3 seeds, 97.80 to 98.00 %)'."""
    mean = f"{100 * sum(values) / len(values):.2f} %"
    if len(values) == 1:
        return f"{mean} (one seed)"
    return f"{mean} ({len(values)} seeds, {100 * min(values):.2f} to {100 * max(values):.2f} %)"


def balanced(metrics: dict[str, float], of: str = "test_accuracy") -> str:
    """What stands beside an accuracy where classes are so uneven that it misleads; else nothing."""
    name = f"balanced_{of}"
    if name not in metrics:
        return ""
    return (
        f" (balanced accuracy {100 * metrics[name]:.1f} %; always saying the most frequent "
        f"class reaches {100 * metrics['guessing']:.1f} %)"
    )


def balanced_column(metrics: dict[str, float]) -> dict[str, str]:
    """The same for a table."""
    if "balanced_test_accuracy" not in metrics:
        return {}
    return {
        "balanced, %": f"{100 * metrics['balanced_test_accuracy']:.2f}",
        "guessing, %": f"{100 * metrics['guessing']:.2f}",
    }


def warned(found: dict[str, Result]) -> dict[str, list[str]]:
    """Warning → the names of the results that carry it, in order."""
    said: dict[str, list[str]] = {}
    for name, result in found.items():
        for warning in result.warnings:
            said.setdefault(warning, []).append(name)
    return said


SEVERAL_RELEASES = (
    "Each strength of noise is a release of the pictures by itself, with noise of its own. "
    "Publishing several of them, or what was learned from them, spends the sum of their ε."
)
CHEATS = {
    "none": "Choose a way to cheat, and see whether the auditor finds it.",
    "no clipping": (
        "Nobody's pull is cut short: a single odd picture can steer the network, and the noise no"
        " longer hides it."
    ),
    "half the noise": "Half of the noise that ε is charged for.",
    "shuffled batches": (
        "Every picture is used exactly once an epoch, as trainings without privacy do. ε counts on"
        " the luck of being drawn or not, which the others cannot foresee."
    ),
    "float32 noise": (
        "Noise of the right size from an ordinary generator, as most code draws it. Far out it"
        " takes few values only, and one picture can show as a value that noise alone never takes."
    ),
}
WHO = {
    "private": "with privacy",
    "not private": "without privacy",
    "no noise": "clipped, without noise",
}


def tied(promise: Guarantee, found: dict[str, dict[str, float]], cheat: str = "none") -> str:
    """What is promised beside what was found, in one line. found: a key of WHO → metrics of the
    attack; cheat: of the auditor's training, not of the one attacked.
    """
    parts = (
        [f"promised: at most **{of_hundred(promise.odds_mechanism)}**"]
        if promise.odds_mechanism is not None
        else ["promised: **nothing**"]
    )
    parts += [
        f"this attack, {WHO[who]}: **{100 * metrics['right_guesses_like_it']:.1f}**"
        for who, metrics in found.items()
    ]
    honest = "" if cheat == "none" else "**For the honest training**, which is the one attacked: "
    return (
        f"{honest}{'of' if honest else 'Of'} 100 guesses whether a picture was in, so many are"
        f" right: a coin **50**; {'; '.join(parts)}."
    )


def audited(metrics: dict[str, float], facts: dict, cheat: str, delta: float) -> str:
    """What an audit has found, in sentences."""
    floor, ceiling, broken = (
        metrics["floor"],
        metrics["ceiling"],
        [check["name"] for check in facts["checks"] if not check["kept"]],
    )
    guesses = (
        f"right {metrics['right']:,.0f} of {metrics['guesses']:,.0f} times about which of the"
        " made-up examples were in"
    )
    shown = (
        f"with {100 * facts['confidence']:.0f} % confidence **at least ε ="
        f" {rounding.floor(floor)}** is spent by training so"
        if floor
        else "which may be luck: nothing was shown to be spent"
    )
    told = (
        f"The auditor guessed {guesses}: {shown}. Promised is **at most {epsilon(ceiling)}**, both"
        f" at δ = {rounding.chosen(delta)}."
    )
    verdict = (
        "No promise was found broken. What is really spent lies between the two, unless this is one"
        " of the 5 in 100 audits whose floor is too high."
    )
    if metrics["beyond"]:
        verdict = (
            "**That cannot be**: so many right guesses happen to a training that keeps its promise"
            " in less than one of 1,000 audits."
        )
    elif broken and floor > ceiling:
        verdict = (
            f"**A promise of the method is broken** ({'; '.join(broken)}), and the guesses agree:"
            " its ε was not earned."
        )
    elif broken:
        verdict = (
            "The guesses alone do not show it, but **a promise of the method is broken**"
            f" ({'; '.join(broken)}): its ε was not earned."
        )
    elif floor > ceiling:
        verdict = (
            "The floor lies above the ceiling: either the training gives away more than it says, or"
            " this is one of the 5 in 100 audits whose floor is too high. Another seed tells."
        )
    planted = (
        ""
        if cheat == "none"
        else f"Here an error was planted: **{cheat}**. "
        + (
            "The auditor **found it**. "
            if metrics["violated"]
            else "The auditor **did not find it**. "
        )
    )
    return f"{planted}{told} {verdict}"


def audited_all(
    found: dict[str, dict[str, float]], blind: list[str], total: int, cheat: str
) -> str:
    """What audits of several trainings have found. blind: those whose noise is too strong for the
    auditor to see this cheat.
    """
    broken = [name for name, metrics in found.items() if metrics["violated"]]
    so_far = "" if len(found) == total else f" ({len(found)} of {total} audited so far)"
    if cheat != "none":
        missed = [name for name in found if name not in broken]
        return (
            f"**{cheat.capitalize()}** was planted in all of them. The auditor found it in"
            f" **{len(broken)} of {len(found)}**{so_far}"
            + (
                f" and missed it in {', '.join(missed)}"
                + (
                    ": so much noise hides it from the auditor as well."
                    if set(missed) <= set(blind)
                    else "."
                )
                if missed
                else "."
            )
        )
    return (
        f"**{len(broken)} of {len(found)}** break a promise: {', '.join(broken)}{so_far}."
        if broken
        else f"In **none of {len(found)}** was a promise found broken{so_far}."
    )


def kept(check: dict) -> str:
    """One check's verdict: a test that could not have seen its error says so."""
    return "broken" if not check["kept"] else "cannot be told" if check["blind"] else "kept"


def powers(facts: dict) -> str:
    """How likely a false alarm is, and how guesses are counted."""
    return (
        "A promise of a correct training is called broken in at most"
        f" {100 * facts['false_alarm']:.0f} of 100 audits. Guesses: the best of four numbers of"
        " them, fixed beforehand, each at its share of the 5 % (Steinke, Nasr and Jagielski 2023)."
    )


def attacked(found: dict[str, dict[str, float]]) -> str:
    """How often the attacker guesses right. found: a key of WHO → metrics of the attack."""
    told = [
        f"**{100 * metrics['right_guesses_like_it']:.1f} ±"
        f" {give_or_take(metrics['right_guesses_margin'])} times in 100** {WHO[who]}"
        for who, metrics in found.items()
    ]
    rare = [
        f"**{1000 * metrics['found_at_0.001']:.1f} ±"
        f" {give_or_take(metrics['found_at_0.001_margin'], 1000)}** {WHO[who]}"
        for who, metrics in found.items()
    ]
    return (
        "Asked about a picture that was in by a coin flip, the attacker is right"
        f" {', '.join(told)}; a coin is right 50 times. If one false alarm in 1,000 is all that is"
        f" allowed, of 1,000 pictures that were in they find {' and '.join(rare)}; a guesser"
        " finds 1."
    )


def shadowed(found: dict[str, dict[str, float]], bounded: bool) -> str:
    """How it was measured."""
    first = next(iter(found.values()))
    own = [f"{100 * metrics['right_guesses']:.1f} ({WHO[who]})" for who, metrics in found.items()]
    promise = (
        "The dark lines are what no attack can beat; that this one finds little is no promise."
        if bounded
        else (
            "That this attack finds little is no promise: nothing is promised here, and another may"
            " find more."
        )
    )
    return (
        f"LiRA (Carlini et al. 2022) on {first['shadows']:.0f} networks like it, each attacked with"
        f" the help of others, {first['candidates']:,.0f} pictures each: thick lines, with 95 %"
        " margins over networks and pictures (where networks differ much in what they give away,"
        " such a margin holds about 88 times in 100). Thin: this very network, half of the"
        f" pictures its training pictures and half test pictures, right {', '.join(own)} times in"
        f" 100, give or take {give_or_take(margin(0.5, int(first['candidates'])))}. {promise}"
    )


# --- generated pictures ---------------------------------------------------------------------------

BEYOND = 1e6  # a metric above is told as that
COPIED = 0.05  # share of held-out pictures that look like copies, by construction
CONTROLS = {
    "held-out": "unseen real pictures",
    "copies": "exact copies",
    "untrained": "untrained generator",
}


def short(value: float) -> str:
    """A number beside its dot."""
    return (
        ""
        if math.isnan(value)
        else "beyond"
        if value > BEYOND
        else f"{value:,.0f}"
        if value >= 100
        else f"{value:.3g}"
    )


def large(value: float) -> str:
    """A number with its size, however large."""
    return (
        "none"
        if math.isnan(value)
        else (
            "beyond a million"
            if value > BEYOND
            else f"{value:.3g}"
            if abs(value) < 1000
            else f"{value:,.0f}"
        )
    )


def grown(curves: dict[str, list[tuple[float, float]]], steps: int) -> str:
    """How far a generator is: 'Measured at step 120 of 1,200; ε = 4.1 spent so far'."""
    if not curves.get("frechet_distance"):
        return "About to begin."
    step, spent = curves["frechet_distance"][-1][0], [y for _, y in curves.get("epsilon", [])]
    told = (
        "; nothing promised"
        if not spent
        else (
            f"; ε = {epsilon(spent[-1])}, all of it spent before the first step"
            if spent[0]
            else f"; ε = {epsilon(spent[-1])} spent so far, at most"
        )
    )
    return f"Measured at step {step:,.0f} of {steps:,}{told}."


def untold(metrics: dict[str, float], space: str = "pixels") -> bool:
    """Is a figure about copies no number? Then nothing was found, and that says nothing."""
    return any(math.isnan(metrics[f"{name}_{space}"]) for name in ("again", "copies"))


def suspicious(metrics: dict[str, float], space: str = "pixels") -> bool:
    """Do more of these pictures look like copies than chance explains, at about one false alarm in
    100? Repeats of a picture count once: as many as have nearest pictures of their own.
    """
    n, held = metrics[f"distinct_{space}"], metrics[f"yardstick_{space}"]
    return metrics[f"copies_{space}"] > COPIED + 2.33 * math.sqrt(
        COPIED * (1 - COPIED) * (1 / n + 1 / held)
    )


def copied(metrics: dict[str, dict[str, float]], made: tuple[str, ...]) -> str:
    """The answer to the page's question from all sets' metrics: whose training pictures come back,
    what was learned, and which metric sees it. made: the generators.
    """
    again = {name: f"**{found['again_pixels']:,}**" for name, found in metrics.items()}
    doubted = doubt(metrics[CONTROLS["copies"]], metrics[CONTROLS["held-out"]])
    unseen = metrics[CONTROLS["held-out"]]["again_pixels"]  # duplicates within the data
    lost = [name for name, found in metrics.items() if untold(found)]
    guilty = (
        [] if doubted else [name for name in made if metrics[name]["again_pixels"] > 2 * unseen]
    )
    uneasy = [name for name in made if name not in guilty and suspicious(metrics[name])]
    blind = [
        name for name in made if name not in guilty and metrics[name].get("precision", 1.0) < 0.05
    ]
    told = (
        f"- **Are there copies?** Of the {metrics[made[0]]['learned']:,} pictures that they learned"
        f" from, so many come back: {_each(made, again)} (unseen real pictures"
        f" {again[CONTROLS['held-out']]}, exact copies {again[CONTROLS['copies']]}). "
    )
    if doubted:
        told += (
            f"**That says nothing here, so no verdict is given**: {doubted}. Pictures that stand"
            " both among those learned from and among the held-out ones, or that all look alike,"
            " make this test blind. "
        )
        uneasy = blind = []
    if guilty:
        told += f"**The {_and(guilty)} hands out pictures that it learned from.** "
    if uneasy:
        told += (
            f"Of the {_and(uneasy)}, more pictures than chance explains lie nearer to those learned"
            " from than to unseen ones: some may have been learned by heart, or few kinds are"
            " drawn, which look alike. "
        )
    if lost:
        told += f"**Nothing can be said of {_and(lost)}**: distances there are no numbers. "
    elif not guilty and not uneasy and not doubted:
        told += (
            "**In none of them does this test find a picture"
            f" again{', beyond what duplicates within the data give' if unseen else ''}.** With"
            " fewer pictures to learn from it may. "
        )
    if blind:
        told += (
            f"The {_and(blind)} drew nothing that could pass for a real picture, so that says"
            " little. "
        )
    told += (
        "A test that finds nothing proves nothing; what a private generator promises holds against"
        " every test."
    )
    far = {name: short(found["frechet_distance"]) for name, found in metrics.items()}
    told += (
        f"\n- **What have they learned?** Distance from real pictures: {_each(made, far)} (unseen"
        f" real pictures {far[CONTROLS['held-out']]}, an untrained generator"
        f" {far[CONTROLS['untrained']]})."
    )
    copies, least = (
        metrics[CONTROLS["copies"]],
        min(made, key=lambda name: _or_worst(metrics[name].get("mifid_torchmetrics", math.inf))),
    )
    if copies.get("mifid_torchmetrics", math.inf) < metrics[least].get(
        "mifid_torchmetrics", -math.inf
    ):
        told += (
            "\n- **Does MiFID see copies?** It was made to punish them. As torchmetrics computes"
            f" it, {metrics[CONTROLS['copies']]['pictures']:,} exact copies score"
            f" {short(copies['mifid_torchmetrics'])}, *better* than every generator here (at least"
            f" {short(metrics[least]['mifid_torchmetrics'])})."
        )
    of_unseen = metrics[CONTROLS["held-out"]].get("mifid_torchmetrics", -math.inf)
    for name in guilty:
        if metrics[name].get("mifid_torchmetrics", math.inf) <= of_unseen:
            told += (
                f"\n- **Does MiFID see copies?** As torchmetrics computes it, the {name}, which"
                f" copies, scores {short(metrics[name]['mifid_torchmetrics'])}, no worse than real"
                f" pictures that nobody learned from ({short(of_unseen)})."
            )
    return told


def _or_worst(value: float) -> float:
    """What is no number is the worst of all, not the best."""
    return math.inf if math.isnan(value) else value


def _each(names: tuple[str, ...], values: dict[str, str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def sets(extractor: str, count: int) -> str:
    """What the chart of sets shows."""
    by = {
        "classifier": "our own network's 64 features",
        "efficientnet_lite0": "EfficientNet-Lite0's 1,280 features",
        "inception": "Inception-v3's 2,048 features: this distance is FID",
        "inception64": "the first 64 features of Inception-v3: not FID proper",
    }[extractor]
    return (
        "Small is good in each panel; but an exact copy is near to real pictures, too, and only"
        f" the second panel looks for copies. Distances over {by}, up to {count:,} pictures of each"
        " set. Grey: sets of which the answer is known. Dotted: where real pictures lie that"
        " nobody learned from, about 5 in 100. A generator that draws few kinds of pictures may"
        " lie above that without copying; whether pictures *come back* is asked more strictly."
    )


def measured(m: dict[str, float]) -> dict[str, str]:
    """A row of the table of all metrics."""
    percent = lambda name: f"{100 * m[name]:.1f}" if name in m else "none"
    number_ = lambda name: large(m[name]) if name in m else "none"
    return {
        "come back, by pixels": f"{m['again_pixels']:,}",
        "come back, by features": f"{m['again_features']:,}",
        "like copies, by pixels, %": percent("copies_pixels"),
        "like copies, by features, %": percent("copies_features"),
        "Fréchet distance": number_("frechet_distance"),
        "kernel distance": number_("kernel_distance"),
        "precision, %": percent("precision"),
        "recall, %": percent("recall"),
        "MiFID, torchmetrics": number_("mifid_torchmetrics"),
        "MiFID, Bai": number_("mifid_bai"),
        "cosine distance, real to made": f"{m.get('cosine_real_to_made', math.nan):.4f}",
        "cosine distance, made to real": f"{m.get('cosine_made_to_real', math.nan):.4f}",
        "distance ratio, pixels": f"{m['ratio_pixels']:.3f}",
        "distance ratio, features": f"{m['ratio_features']:.3f}",
        "pictures": f"{m['pictures']:,}",
    }


MIFID = """
MiFID (Bai et al. 2021) divides the Fréchet distance by how far generated pictures are from the nearest training pictures, so that copying makes it large. Four things can mislead:

- **A threshold.** Above a mean cosine distance of 0.1 nothing is punished. Whether a set falls below depends on the network that compares: in a small network nearly all pictures look
  alike, and everything counts as "memorised", real pictures that nobody learned from and even noise included.
- **A direction.** The paper asks how near each *generated* picture is to a training picture. torchmetrics asks how near each *training* picture is to a generated one: a set that copies a quarter of
  the training pictures exactly leaves the other three quarters as far as they are from any real picture, and goes nearly unpunished. See the row of exact copies.
- **Zero over zero.** A copy of the whole training set has distance 0, and torchmetrics says 0.0: perfect. By the paper's formula it is 0 over 0, and rounding decides.
- **No yardstick.** A real picture that nobody learned from has near neighbours, too. So a low distance alone proves nothing: the finder above compares with held-out pictures.

And its two parts pull against each other. Noise moves pictures away from all real ones: that raises the Fréchet distance and lowers the penalty. So MiFID can rise or fall with privacy, whoever
has memorised what.
"""

FIDELITY_REPORT = """
The report (Faber) trained a DCGAN on faces (CelebA, grey, 64 x 64), with Opacus on the discriminator and without. FID rose from 1.58 to 4.80 with privacy, MiFID fell from 2460 to 535, and it
concluded that differential privacy lowers memorisation. But an *untrained* generator, in its own notebook, scores 2316: by that reading noise would be memorised as well as faces. Its FID is over 64
features of Inception-v3, where the name stands for 2,048; and its pictures reach the metric in [−1, 1] where [0, 1] is expected, so that dark pixels wrap around. Below, our sets by its two
numbers, with that mistake and without.
"""

FIDELITY_FORMULAS = r"""
With $\mu, \Sigma$ the mean and covariance of the features of real ($r$) and generated ($g$) pictures, the **Fréchet distance** is
$\lVert \mu_r - \mu_g \rVert^2 + \mathrm{tr}\big(\Sigma_r + \Sigma_g - 2 (\Sigma_r \Sigma_g)^{1/2}\big)$; over Inception-v3's 2,048 features it is called FID (Heusel et al. 2017).

**Kernel distance**: the squared maximum mean discrepancy with $(x \cdot y / d + 1)^3$, without bias (Bińkowski et al. 2018). **Precision**: the share of generated pictures inside the real ones'
balls to their third neighbour; **recall** the other way round (Kynkäänniemi et al. 2019).

**MiFID**: Fréchet distance over $m$ where $m < 0.1$, with $m$ the mean of $\min_j (1 - |\cos(g_i, r_j)|)$ over generated pictures $i$ (Bai et al. 2021), or over real ones (torchmetrics 1.9).

**Looks like a copy**: with $d$ the distance to the nearest picture (pixels less their mean, scaled to length 1; or features), the ratio $d(x, \text{learned from}) / d(x, \text{held out})$ below the value that 5 % of the
held-out pictures themselves are below. Where fewer pictures were learned from than half of those held out, as many held-out ones are compared with, and the others are the yardstick. **Comes back**: a picture learned from, nearest to a
generated one whose ratio is below a third of what 99 in 100 held-out pictures lie above.

**The private GAN**: at every step of the discriminator $D$, for a Poisson batch $B$ of real pictures and generated ones $G(z_j)$,
$\tilde g = \tfrac1{qn}\big(\sum_{i \in B} \mathrm{clip}_C(\nabla \ell(D(x_i), 1)) + \mathcal N(0, \sigma^2 C^2 I) + \sum_j \mathrm{clip}_C(\nabla \ell(D(G(z_j)), 0))\big)$. $G$ learns from $D$ alone,
so whatever it makes costs no more.

**DP-MERF** (Harder et al. 2021): with $\varphi(x) = (\cos \omega_k \cdot x, \sin \omega_k \cdot x)_k / \sqrt K$, $\omega_k \sim \mathcal N(0, I / \ell^2)$, released once is
$\sum_i \varphi(x_i) \otimes (e_{y_i})$ with 0.1 times the classes' sizes, all under noise of $\sigma \sqrt{1 + 0.1^2}$; then $G$ is trained until its own mean is that.
"""

DP_TRAINING_REPORT = """
The report (Boulif and Durand 2021) trained this kind of network with TensorFlow Privacy: two convolutions with max-pooling, a
dense ReLU layer and a softmax. It does not give the layers' sizes; these are those of the tutorial that it builds on. The preset *As in
the report* joins what its figures on MNIST share: learning rate 0.1, noise multiplier 0.5 and clip norm 4 (its figures 3 and 7) with
15 epochs (its figure 4, where the rate is 0.08), and δ = 1e-5; the batch size of 256 is the tutorial's, for the text gives none. It found an
accuracy of about 0.9 for clip norms 1, 2 and 4 and a drop at 8, about 95 % without privacy, Adam and Adagrad ahead of SGD, and less
accuracy the smaller ε. Two slips in its text: its sensitivity is written in the L1 norm, where the Gaussian mechanism needs L2, and
"0.9 %" means a fraction of 0.9.
"""

CLUSTERING_REPORT = """
The report (Green, Hodson and Hanoian 2020) noised MNIST and let K-means and IIC find the labels. Its K-means confusion matrix (figure 3) took cluster
number 3 for the digit 3; ours, matched, are right for more than half of the digits (0.55 at its own noise). Its IIC code (built on astirn/IIC) scaled
700 pictures together to length 1, so that each picture's noise was √700 = 26 times stronger than meant, drew fresh noise for every copy in every epoch while
charging one release, and used the textbook σ far outside its proof. It found matched errors of 0.055 raw, 0.89 at ε = 150 and 2000, 0.29 at 3000, 0.30 at
5000 and 0.05 at 200,000 (read off its figure 4), and concluded that clustering survives only absurd budgets. Each of these errors is a switch above.
"""

CLUSTERING_FORMULAS = r"""
**K-means** (Lloyd): heaps $C_1 \dots C_k$ with centres $\mu_j$ that make $\sum_j \sum_{x \in C_j} \lVert x - \mu_j \rVert^2$ small; of several starts the
tightest is kept.

**IIC** (Ji, Henriques and Vedaldi 2019): for pictures $x$, transformed copies $x'$ and soft answers $\Phi$, the joint
$P = \tfrac1n \sum \Phi(x)\,\Phi(x')^{\mathsf T}$, made symmetric; learned is the largest mutual information
$\sum_{c,c'} P_{cc'} \left( \ln P_{cc'} - \lambda \ln P_c - \lambda \ln P_{c'} \right)$.

**Matching**: the one-to-one map from heaps to classes that makes most pictures right (Kuhn 1955). True labels are used for judging only.

**Many releases**: $m$ independent draws of noise $\sigma$ on one picture tell as much as one draw of $\sigma / \sqrt m$.
"""

SYNTHESIS_REPORT = """
The report ([arXiv 2210.03205](https://arxiv.org/abs/2210.03205), 2022) takes a ResNet20 that knows CIFAR-10, changes free pixels until the batch-norm statistics fit, and trains a ResNet20 from
scratch on the result with hard labels. It says that privacy falls as accuracy rises, but measures no privacy, states no guarantee, and its text has lost the
numbers of steps and of pictures. Its free pixels are a choice among the settings.
"""

SYNTHESIS_PROMISE = """
Statistics of pictures and a network that learned from them carry **no** guarantee, however odd the pictures look: nothing bounds what one person's picture may
have changed. A guarantee needs noise that was added on purpose. A network trained by DP-SGD has one, but it cannot use batch norm, because there one picture
changes what happens to all others of its batch; and the norm that it uses instead, group norm, remembers no statistics that could be matched.

The preset *A private teacher* shows a way (our own addition, with its proof in docs/synthesis.md): the teacher learns by DP-SGD with group norm. Then each training
picture hands in one vector, the means and mean squares of what every layer says of it. Vectors are shortened to a fixed length, added up, and Gaussian noise
is added to the sum, once. ε counts both, training and statistics. All that is made afterwards, the pictures and the students, costs nothing more.
"""

SYNTHESIS_FORMULAS = r"""
Pictures $x$ with wanted labels $y$ are changed to make small

$$\sum_l \Big( \lVert \mu_l(x) - \hat\mu_l \rVert_2^2 + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2^2 \Big) + \mathrm{CE}(f(x), y),$$

with $\hat\mu_l, \hat\sigma_l^2$ what batch norm $l$ recorded of the training data and $\mu_l(x), \sigma_l^2(x)$ the same of the pictures in the making.

**Looks like a copy**: with $d$ the distance to the nearest picture (each picture less its mean, scaled to length 1), $d(x, \text{training}) / d(x, \text{held out})$ below the value that 5 % of the
held-out pictures themselves are below.

**Members told**: area under the ROC curve of minus the distance from a real picture to the nearest released one; training pictures against held-out ones.

**Noised statistics**: with $v_i$ the vector of picture $i$, $\lVert v_i \rVert_2 \le C$, released is
$\sum_i (v_i, 1) + \mathcal N(0, \sigma^2 (C^2 + 1) I)$, a Gaussian mechanism with noise multiplier $\sigma$: a blanked picture adds $(0, 0)$.
"""

DP_TRAINING_FORMULAS = r"""
Each step draws a batch $B$, every picture joining with probability $q$ by its own coin. With $g_i$ the gradient of picture $i$,

$$\tilde g = \frac{1}{q n}\Big(\sum_{i \in B} g_i \cdot \min\!\big(1, \tfrac{C}{\lVert g_i \rVert_2}\big) + \mathcal N(0, \sigma^2 C^2 I)\Big).$$

$C$ is the clip norm (max_grad_norm), $\sigma$ the noise multiplier, $q n$ the *expected* batch size. The training is
$(\varepsilon, \delta)$-differentially private: for every set $S$ of networks and all data sets $D, D'$ of $n$ pictures, one of which is blanked in one of them (it adds nothing to any sum; $n$ is public),
$P[M(D) \in S] \le e^{\varepsilon} P[M(D') \in S] + \delta$ (Abadi et al. 2016). $\varepsilon$ is added up over the steps with Rényi
divergences while it runs and from the privacy loss distribution at the end.

**The linear model** sees fixed features $x$ of a picture, with $\lVert x \rVert_2 \le R$, less a mean that is released once, $m = \tfrac1n \big(\sum_i x_i + \mathcal N(0, \sigma_m^2 R^2 I)\big)$, and
$\varepsilon$ counts that too. With the residual $r = \mathrm{softmax}(W(x - m) + b) - y$ its gradient is $r \otimes (x - m, 1)$, of length
$\lVert r \rVert_2 \sqrt{\lVert x - m \rVert_2^2 + 1}$.

**Several networks**: publishing all of them, or picking the best, spends the composition of all their privacy loss distributions.

**The auditor's floor**: with $m$ canaries, $r$ guesses, $v$ of them right, and $B \sim \mathrm{Bin}\big(r, \tfrac{e^\varepsilon}{1 + e^\varepsilon}\big)$, every $(\varepsilon, \delta)$-private training gives so
many right guesses with a probability of at most $P[B \ge v] + 2 m \delta \max_i \tfrac1i P[v > B \ge v - i]$ (Steinke, Nasr and Jagielski 2023, Theorem 5.2). The floor is the largest $\varepsilon$ for which that is
below 1.25 %, for the best of four $r$. A canary's score is $\sum_t \log\big(1 - q + q\, e^{(a_t c_t - c_t^2/2)/\sigma^2}\big)$, with $a_t$ what step $t$ published along its own gradient and $c_t$ how far that may pull.

**The attacker's score** (LiRA): with $\phi = \log \tfrac{p}{1 - p}$ of the right class, $\log \mathcal N(\phi; \mu_\text{in}, s_\text{in}^2) - \log \mathcal N(\phi; \mu_\text{out}, s_\text{out}^2)$, fitted to shadows that knew the picture and that did not.
At a share $\alpha$ of false alarms no attack finds more than $\min_\varepsilon \big(e^\varepsilon \alpha + \delta(\varepsilon)\big)$, with $\delta(\varepsilon)$ from the privacy loss distribution.
"""


# --- phones that share gradients ------------------------------------------------------------------


def per_hundred(share: float) -> str:
    """An accuracy as 'of 100': '96.7'."""
    return f"{100 * share:.1f}"


def shared(
    metrics: dict[str, dict[str, float]], name: str, people: int, rounds: int, tested: int
) -> str:
    """What came out of sharing. metrics: arm → its numbers; name: the arm that is told of; tested:
    test pictures.
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
    """The line below the phones: who sent how much on a day."""
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


# decibels and SSIM above a picture of one colour, below which nothing of the picture is there
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
        f" **{plain(facts['rebuilt_named'])}**{', so it still recognises it' if same and looks(metrics) != NOTHING else ''}."
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
    """How near a rebuilt picture is, in words: by decibels, by structure, and by what a picture of
    one colour would reach.
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
    """What became of a picture under a defence, below it."""
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


def user_level(promise: Guarantee, plan: dict, rounds: int, people: int, by_phone: bool) -> str:
    """The line below the noise dial."""
    if promise.epsilon is None:
        return "No noise: **nothing is promised to anyone**, however small the share is."
    asked = (
        "what lies on your phone, one of two sets of pictures,"
        if by_phone
        else "whether you took part"
    )
    return (
        f"Noise multiplier σ = {rounding.described(plan['noise_multiplier'])}, clip norm"
        f" {plan['clip']:g}, {rounds} days: **ε = {epsilon(promise.epsilon)}** for all pictures of"
        f" one participant, one of {people:,} ({promise.accountant.split(' (')[0]}). Attackers who"
        f" guess {asked} {how_often(promise.odds_mechanism)}."
    )


def dip(accuracy: list[tuple[float, float]], optimizer: str, noised: bool) -> str:
    """Why the first day may be below the first model, where it is: measured on the bundled digits,
    two seeds for each optimizer.
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
    """Why gradients may weigh more than pictures. sent: arm → bytes, had: of the pictures."""
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
Report 5 (Bu, CS230): a company trains a first model on half of its pictures of men, women, dogs and cats, ships it in an app, and goes on learning from users' phones by *distributed selective SGD* (Shokri and
Shmatikov 2015). Its first models, accuracy on validation pictures: a CNN from scratch 72.1 % (SGD), 74.8 % (RMSProp), 77.7 % (Adam); VGG16 with a new last layer 79.6, 81.4, 83.5 %. With 10 to 20 % of the gradients
it came about as far as training on all pictures in one place; no update was worst. Its code could not be had. *Show: first models* above is its table with ours; docs/gradient_sharing.md says how to build the folder.

Shokri and Shmatikov on MNIST: 99.14 % sharing 10 %, 98.71 % sharing 1 %, 99.17 % with all pictures in one place, 93.16 % alone.

What the report does not say: a fraction of the gradients is no protection. What can be rebuilt from an upload is what the lower half of this page is about.
"""

SHARING_FORMULAS = r"""
**A day.** Phone $i$ downloads the model $w$, goes through its own pictures by SGD, $w_i \leftarrow w_i - \eta\, g_i^t$, and adds up what it has seen: $G_i = \sum_t g_i^t$.
It uploads $u_i = S(G_i)$: the $\theta n$ entries of largest magnitude, or random ones, or those above a threshold. The server takes $w \leftarrow w - \eta\,\eta_s \tfrac1m \sum_i u_i$.

**With a promise.** Each $u_i$ is shortened to $\lVert u_i \rVert_2 \le C$. The server adds $\mathcal N(0, \sigma^2 C^2 I)$ to the sum and divides by the *expected* number of uploads. A participant, blanked with all
its pictures (their number stays the same and is public), moves the sum by at most $C$: $T$ days are $T$ Gaussian mechanisms on a Poisson sample of the participants, counted exactly (PLD). That holds whatever $S$ is: so choosing fewer gradients buys no privacy,
and noise goes to all gradients that somebody could have sent. Where *each phone* adds the noise, its pictures replaced by others move its upload by at most $2C$: noise multiplier $\sigma/2$, every day, no sampling.

**The attack** (Geiping et al. 2020) looks for the picture $x$ whose gradient points where the upload does:
$\min_x\; 1 - \dfrac{\langle \nabla_w \ell(x, y),\, u\rangle}{\lVert \nabla_w \ell(x, y)\rVert\,\lVert u \rVert} + \lambda\, \mathrm{TV}(x)$, on the entries that were sent. Clipping alone changes the length of $u$ and not its
direction: this attack does not even notice.
"""
