"""The sentences and images of the pages: pure functions, checked as text."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageColor
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from engine import privacy
from engine.core import parameters, rounding
from engine.core.streams import Streams
from engine.core.study import Guarantee
from engine.studies import STUDIES
from engine.studies.dp_training.audit import verdicts
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.gradient_sharing import SharingPlan
from engine.studies.gradient_sharing.gradient_sharing import refusals
from pages.common import figures, sentences
from pages.dp_training import charts as dp_training_charts
from pages.dp_training import text as dp_training_text
from pages.gradient_sharing import charts as gradient_sharing_charts
from pages.gradient_sharing import text as gradient_sharing_text
from pages.noise import series_charts as noise_charts
from pages.noise import text as noise_text
from pages.synthesis import text as synthesis_text

PROMISE = dict(
    unit="u",
    delta=1e-5,
    mechanism="m",
    accountant="a",
    sampling="s",
    sample_rate=None,
    steps=1,
    note="n",
)


def promise(odds: float | None, epsilon: float | None = 1.0) -> Guarantee:
    return Guarantee(**PROMISE, epsilon=epsilon, odds_any=odds, odds_mechanism=odds)


def test_text_from_elsewhere_is_never_markup_and_numbers_stay_numbers():
    assert sentences.plain("rate 0.0625, 192 steps") == "rate 0.0625, 192 steps"
    for bad in (
        "[x](http://e.com)",
        "![x](//e.com)",
        "<b>",
        "**b**",
        "$x$",
        "`c`",
        "https://e.com",
        ":material/x:",
    ):
        escaped = sentences.plain(bad)
        assert (
            all(
                before == "\\"
                for before, c in zip("\\" + escaped, escaped)
                if c in "[]()<>*$`:!" and before != c
            )
            or "\\" in escaped
        )
        assert escaped.replace("\\", "").replace("\u2060", "") == bad
    assert "www." not in sentences.plain("www.example.com") and "@b" not in sentences.plain(
        "a@b.com"
    )


def test_a_command_in_a_notice_is_shown_as_code_and_the_rest_as_it_is():
    told = sentences.notice("Get it with `python -m engine data fetch mnist`, or *by hand*.")
    assert told == "Get it with `python -m engine data fetch mnist`, or \\*by hand\\*."
    for bad in ("one ` alone <b>", "``**b**", "`a\n\n**b**`"):
        assert "**b" not in sentences.notice(bad) and "<b" not in sentences.notice(bad).replace(
            "\\<b", ""
        )


def test_odds_are_never_rounded_in_our_favour():
    assert [rounding.of_hundred(p) for p in (0.5, 0.5500001, 0.558, 0.75, 0.9899, 1.0)] == [
        50,
        56,
        56,
        75,
        99,
        100,
    ]
    assert "at most **56 times in 100**" in sentences.odds(promise(0.558), "Blind", "Seeing")
    assert "more than **99 times" in sentences.odds(promise(0.9901), "Blind", "Seeing")
    assert "all but certain" in sentences.odds(promise(1.0), "Blind", "Seeing")
    assert "nothing is guaranteed" in sentences.odds(promise(None, None), "Blind", "Seeing")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.9856, "7.986"),
        (1.0, "1.000"),
        (0.12345, "0.124"),
        (1927.99, "1,928"),
        (None, "none"),
        (float("inf"), "∞ (no privacy)"),
        (123.41, "123.5"),
    ],
)
def test_epsilon_in_words_is_never_rounded_down(value, text):
    assert rounding.epsilon(value) == text


@pytest.mark.parametrize("right", [0, 1, 56, 100])
def test_the_crowd_marks_as_many_as_it_says(right):
    assert figures.crowd(right).count(figures.COLOURS["attacker"]) == right
    assert figures.crowd(right).count("<circle") == 100


def test_one_colour_means_one_thing_and_colours_differ():
    assert len(set(figures.COLOURS.values())) == len(figures.COLOURS)


def contrast(first: str, second: str) -> float:
    """Of two colours, by the Web Content Accessibility Guidelines 2.1: from 1 to 21."""

    def channels(colour):
        return [c / 255 for c in ImageColor.getrgb(colour)]

    def light(colour):
        return sum(
            weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for weight, c in zip((0.2126, 0.7152, 0.0722), channels(colour))
        )

    brighter, darker = sorted((light(first), light(second)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_every_line_stands_out_from_a_white_and_from_a_dark_page(count):
    white, dark = "#FFFFFF", "#0E1117"  # Streamlit's two grounds
    lines = [
        figures.shade(i, count, ends)
        for ends in (figures.BLUES, figures.ORANGES)
        for i in range(count)
    ]
    lines += [
        *figures.COLOURS.values(),
        *(colour for colour, _ in gradient_sharing_charts.WAYS.values()),
    ]
    assert (
        min(contrast(line, white) for line in lines) > 1.5
        and min(contrast(line, dark) for line in lines) > 2.5
    )
    assert len({figures.shade(i, count) for i in range(count)}) == count
    # a line that could not be seen is found
    assert contrast("hsl(210, 65%, 23%)", dark) < 2 and contrast(white, "#000000") == pytest.approx(
        21
    )


def test_curves_reach_the_chart_unchanged():
    chart = dp_training_charts.accuracy(
        {"private": {"test_accuracy": [(1.0, 0.5), (2.0, 0.75)]}}, 20, 0.1
    )
    drawn = {trace.name: trace for trace in chart.data}["test images, private"]
    assert (
        list(drawn.x) == [1, 2]
        and list(drawn.y) == [50, 75]
        and drawn.line.color == figures.COLOURS["private"]
    )


def test_times_and_sizes_as_people_say_them():
    assert (
        sentences.seconds(0.3) == "under a second"
        and sentences.seconds(12.4) == "about 12 seconds"
        and sentences.seconds(200) == "about 3 minutes"
    )
    assert sentences.size(999) == "999 bytes" and sentences.size(10_737_418_240) == "10.7 GB"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5432, "0.54"), (6.1, "6.1"), (160.3, "160"), (1390.0, "1,400"), (16_049.0, "16,000")],
)
def test_factors_are_said_with_two_digits(value, text):
    assert sentences.times(value) == text


def test_margins_are_wilsons():
    found = binomtest(950, 1000).proportion_ci(method="wilson")
    assert sentences.margin(0.95, 1000) == pytest.approx((found.high - found.low) / 2, rel=1e-3)
    assert 0 < sentences.margin(1.0, 100) < 0.03


def test_the_luck_of_not_being_drawn_is_told():
    drawn = privacy.odds_dp_sgd(0.0, 1 / 16, 16)
    lucky = replace(promise(0.82), sample_rate=1 / 16, steps=16, odds_undrawn=drawn)
    told = sentences.odds_detail(lucky)
    assert (
        "35 in 100 images were never drawn at all: that alone limits the attacker to at most 83"
        " in 100" in told
    )
    assert "never drawn" not in sentences.odds_detail(replace(lucky, steps=320))


def test_luck_that_hardly_anybody_has_blames_no_other_release():
    """One in 69 is never drawn: at most 99.3 in 100, shown as 100, and nothing else is released."""
    rate, steps = 0.064, 64
    drawn = privacy.odds_dp_sgd(0.0, rate, steps)
    told = sentences.odds_detail(
        replace(promise(0.82), sample_rate=rate, steps=steps, odds_undrawn=drawn)
    )
    assert "1 in 100 images were never drawn" in told and "released about all" not in told
    whom = replace(
        promise(0.82),
        sample_rate=rate,
        steps=steps,
        odds_undrawn=drawn,
        unit="all images of one client",
    )
    assert "1 in 100 clients were never drawn" in sentences.odds_detail(whom)


def test_luck_that_a_release_of_all_takes_away_is_not_promised():
    """Steps that drew an image never, and a mean of all images besides: the luck was once said
    to hold at 82 beside odds of 88.89.
    """
    for release in (10.0, 0.8, 0.2):
        bound = privacy.odds_dp_sgd(0.0, 1 / 16, 16, release_noise=release)
        odds = privacy.odds_dp_sgd(1.0, 1 / 16, 16, release_noise=release)
        released = replace(promise(odds), sample_rate=1 / 16, steps=16, odds_undrawn=bound)
        told = sentences.odds_detail(released)
        assert odds <= bound and bound > 1 - (15 / 16) ** 16 / 2
        if release == 0.2:
            assert "this chance protects nobody" in told and "at most 83" not in told
        else:
            most = rounding.of_hundred(bound)
            assert f"released about all, limits the attacker to at most {most} in 100" in told


@pytest.mark.parametrize(
    "fields",
    [
        {"noise_multiplier": 1.0, "epochs": 1},
        {"network": "cnn", "noise_multiplier": 0.6, "epochs": 1},
    ],
)
def test_no_promise_of_a_training_contradicts_its_own_luck(fields):
    study = DPTraining(**fields)
    found = study.guarantee(study.plan(4000))
    assert found.odds_mechanism <= found.odds_undrawn
    if study.plan(4000).mechanism.release_noise:
        assert found.odds_undrawn > 1 - (1 - found.sample_rate) ** found.steps / 2


def test_an_area_is_compared_with_the_bound_on_areas():
    """At ε = 7.988 the odds of 77 stood beside an area, of which 85.5 is allowed."""
    found = {"membership_features": 0.8, "area_any": 0.99966, "area_mechanism": 0.855}
    told = synthesis_text.membership_text(found, replace(promise(0.77, 7.988), accountant="PLD"))
    assert "**80** times in 100" in told and "above **86** in 100" in told
    assert "none above 100." in told and "77" not in told
    assert "Nothing is guaranteed" in synthesis_text.membership_text(
        found, replace(promise(None), epsilon=None)
    )


def test_one_bar_a_step_of_the_walk_joined_end_to_end():
    chart = noise_charts.walk(
        {
            "raw": ("raw", 0.95),
            "noise": ("privacy", 0.9),
            "error": ("error", 0.1),
            "missing": ("error", None),
        },
        (0.1, 0.11),
        0.1,
    )
    bars = [b for b in chart.data if b.type == "bar"]
    assert [b.y[0] for b in bars] == pytest.approx([95, -5, -80, 0])
    assert [b.base[0] + b.y[0] for b in bars[:3]] == pytest.approx([95, 90, 10])
    assert [b.marker.color for b in bars[:3]] == [
        figures.COLOURS[c] for c in ("raw", "private", "attacker")
    ]


def test_the_walk_names_a_grey_band_only_where_there_is_one():
    assert "report 1 measured (10 to 11 %)" in noise_text.walk((0.10, 0.11))
    assert "Grey" not in noise_text.walk(None)
    bands = [
        noise_charts.walk({"raw": ("raw", 0.9)}, published, 0.1).layout.shapes
        for published in ((0.10, 0.11), None)
    ]
    assert [len(shapes) for shapes in bands] == [1, 0]


def test_the_walk_says_where_an_error_had_nothing_left_to_spoil():
    told = [
        t.text[0]
        for t in noise_charts.walk(
            {"raw": ("raw", 0.95), "first": ("error", 0.1), "second": ("error", 0.1)}, None, 0.1
        ).data
        if t.text
    ]
    assert ["nothing left" in text for text in told] == [False, False, True]


def test_a_step_of_the_walk_never_carries_the_change_of_a_missing_one():
    chart = noise_charts.walk(
        {"raw": ("raw", 0.97), "a": ("privacy", None), "b": ("error", 0.1), "c": ("error", 0.05)},
        None,
        0.05,
    )
    bars = [b for b in chart.data if b.type == "bar"]
    assert [b.y[0] for b in bars] == pytest.approx([97, 0, 0, -5])


def test_the_heat_map_puts_each_cell_where_it_belongs():
    chart = noise_charts.heat(
        {(50.0, "shallow", 0.5): 0.25, (150.0, "deep", 1.0): 0.75},
        (50.0, 150.0),
        ("shallow", "deep"),
        (0.5, 1.0),
    )
    assert [[list(row) for row in panel.z] for panel in chart.data] == [
        [[25.0, None], [None, None]],
        [[None, None], [None, 75.0]],
    ]


@pytest.mark.full
def test_the_margin_of_an_area_under_a_curve_is_what_chance_moves_it_by():
    rng = np.random.default_rng(0)
    areas = [
        roc_auc_score(np.r_[np.ones(300), np.zeros(100)], rng.normal(size=400)) for _ in range(2000)
    ]
    outside = np.mean(np.abs(np.array(areas) - 0.5) > synthesis_text.margin_of_ranks(300, 100))
    assert 0.03 < outside < 0.07
    assert (
        np.mean(np.abs(np.array(areas) - 0.5) > 0.8 * synthesis_text.margin_of_ranks(300, 100))
        > 0.09
    )


def test_a_refusal_names_the_field_as_the_page_does():
    specs = parameters.specs(STUDIES["dp_training"])
    assert (
        sentences.named("max_grad_norm: nan is not allowed", specs)
        == "Clip norm: nan is not allowed"
    )
    assert (
        sentences.named("hat: nan is not allowed", specs) == "hat: nan is not allowed"
        and sentences.named("no field", specs) == "no field"
    )


# --- audits and attacks ---------------------------------------------------------------------------


def audit(
    lower_bound: float, kept: bool, bound_violated: bool, blind: bool = False
) -> tuple[dict, dict]:
    metrics = {
        "lower_bound": lower_bound,
        "upper_bound": 3.0,
        "right": 170,
        "guesses": 200,
        "bound_violated": float(bound_violated),
        "violated": float(bound_violated or not kept),
    }
    checks = [
        {
            "name": "the noise is as large as claimed",
            "kept": kept,
            "error": "half the noise",
            "blind": blind,
        }
    ]
    return metrics, {"confidence": 0.95, "alarm": 0.999, "false_alarm": 0.01, "checks": checks}


@pytest.mark.parametrize(
    ("found", "bug", "said", "unsaid"),
    [
        (audit(1.2, True, False), "none", "No violation was found", "Simulated"),
        (audit(0.0, True, False), "none", "no ε was shown to be spent", "at least"),
        (audit(4.0, True, True), "none", "The claimed ε does not hold", "No violation"),
        (audit(3.2, True, False), "none", "Try another seed", "does not hold"),
        (audit(1.2, False, False), "half the noise", "The auditor **found it**", "No violation"),
        (audit(3.2, False, False), "none", "the guesses agree", "do not show it"),
        (audit(1.2, True, False), "half the noise", "**did not find it**", "failed** ("),
    ],
)
def test_an_audits_sentence_says_what_was_found_and_no_more(found, bug, said, unsaid):
    told = dp_training_text.audited(*found, bug, 1e-5)
    assert said in told and unsaid not in told and "170 of 200" in told and "δ = 1e-05" in told


def test_a_check_that_could_not_have_seen_its_error_is_not_called_passed():
    _, facts = audit(1.0, True, False, blind=True)
    assert dp_training_text.verdict(facts["checks"][0]) == "inconclusive"
    assert verdicts(facts["checks"], False) == ["This audit cannot detect: half the noise."]
    assert (
        dp_training_text.verdict(facts["checks"][0] | {"kept": False}) == "failed"
        and dp_training_text.verdict(facts["checks"][0] | {"blind": False}) == "passed"
    )


def test_audits_of_a_series_say_how_many_there_are_and_which_were_missed():
    one, two = audit(1.0, True, False)[0], audit(1.0, False, False)[0]
    assert "none of 1" in dp_training_text.audited_all(
        {"a": one}, [], 3, "none"
    ) and "1 of 3 audited so far" in dp_training_text.audited_all({"a": one}, [], 3, "none")
    told = dp_training_text.audited_all({"a": one, "b": two}, ["a"], 2, "half the noise")
    assert "found it in **1 of 2**" in told and "missed it in a: the noise is strong enough" in told
    assert "strong enough" not in dp_training_text.audited_all(
        {"a": one, "b": two}, [], 2, "half the noise"
    )


def test_the_line_that_ties_promise_and_attack():
    told = dp_training_text.tied(
        promise(0.631),
        {
            "private": {"right_guesses_like_it": 0.511},
            "not private": {"right_guesses_like_it": 0.542},
        },
    )
    assert (
        "by chance **50**; guaranteed at most **64**; this attack with privacy: **51.1**; this"
        " attack without privacy: **54.2**" in told
    )
    assert "guaranteed: **nothing**" in dp_training_text.tied(
        promise(None, None), {"no noise": {"right_guesses_like_it": 0.5}}
    )


def test_classes_stand_by_what_they_lose():
    chart = dp_training_charts.per_class(
        {"private": {"a": 0.9, "b": 0.5, "c": 0.8}, "not private": {"a": 0.95, "b": 0.9, "c": 0.79}}
    )
    assert list(chart.layout.xaxis.categoryarray) == ["b", "a", "c"]
    assert dp_training_charts.per_class({"private": {"a": 0.9}}).layout.xaxis.categoryarray is None


def test_a_single_networks_curve_begins_where_it_is_no_luck():
    alarms = np.r_[0.0, np.geomspace(1e-4, 1, 81)]
    chart = dp_training_charts.roc(
        {
            "private": {
                "false_alarms": alarms,
                "score": np.zeros(2000),
                "roc": alarms,
                "roc_like_it": alarms,
            }
        }
    )
    thin, thick = (
        next(t for t in chart.data if name in t.name) for name in ("this model", "models like this")
    )
    assert min(thin.x) >= 1.0 and min(thick.x) == pytest.approx(0.01)


def test_a_crowd_of_outlines_marks_nobody():
    assert figures.crowd(None).count("stroke-dasharray") == 100 and 'fill="none"' in figures.crowd(
        None
    )
    assert figures.crowd(64).count(figures.COLOURS["attacker"]) == 64


# --- clients that share gradients ----------------------------------------------------------------


def attacked(psnr, ssim, flat, noise=0.0, found=1.0):
    return {
        "psnr_db": psnr,
        "ssim": ssim,
        "psnr_flat": flat,
        "ssim_flat": 0.1,
        "label_found": found,
        "named_the_same": 1.0,
        "noise_to_signal": noise,
    }


FOUND = {
    "label": "3",
    "guessed": "3",
    "classes": list("0123456789"),
    "true_named": "3",
    "rebuilt_named": "3",
}


def test_a_flat_image_is_not_nearly_identical_however_many_decibels_it_has():
    assert (
        gradient_sharing_text.quality(attacked(26.6, 0.9, 26.6) | {"ssim_flat": 0.9})
        == gradient_sharing_text.NOTHING
        and gradient_sharing_text.quality(attacked(11.7, 0.51, 10.0)) == "recognisable"
        and gradient_sharing_text.quality(attacked(21.0, 0.2, 12.0)) == "recognisable"
    )
    assert (
        gradient_sharing_text.quality(attacked(23.5, 0.82, 10.0)) == "nearly identical"
        and gradient_sharing_text.quality(attacked(12.0, 0.2, 8.0)) == "a trace of the image"
    )
    said = gradient_sharing_text.rebuilt(attacked(5.0, 0.0, 9.0, noise=16.0), FOUND, own=False)
    assert (
        gradient_sharing_text.NOTHING in said
        and "still recognises" not in said
        and "random guess is right once in 10" in said
    )
    assert "which is wrong: you chose 3" in gradient_sharing_text.rebuilt(
        attacked(5.0, 0.0, 9.0, found=0.0), FOUND | {"guessed": "8"}, own=True
    )
    assert "all labels were tried" in gradient_sharing_text.rebuilt(
        attacked(5.0, 0.0, 9.0), FOUND | {"guessed": None}, own=True
    )


def test_refusals_are_laid_at_the_right_door():
    broken = refusals({"refused": 3, "refused_honest": 0, "uploads": 9}, "huge")
    assert "3 of 12 uploads came from the broken client" in broken and "learning rate" not in broken
    away = refusals({"refused": 20, "refused_honest": 20, "uploads": 0}, "none")
    assert (
        "broken client and" not in away and "not broken" in away and "smaller learning rate" in away
    )


def test_bytes_are_compared_with_the_images_they_stand_for():
    assert gradient_sharing_text.cheap(
        {"1 %": 10.0, "10 %": 200.0, "100 %": 900.0}, 100.0
    ).startswith("Sharing 10 % and 100 % here send more")
    assert gradient_sharing_text.cheap({"1 %": 10.0}, 100.0) == ""
    metrics = {
        "10 %": {"test_accuracy": 0.967, "bytes": 8_199_600, "bytes_of_images": 2_979_200},
        "no update": {"test_accuracy": 0.873},
        "all images in one place": {"test_accuracy": 0.976},
        "each client alone": {"test_accuracy": 0.921},
    }
    said = gradient_sharing_text.shared(metrics, "10 %", 20, 30, 100_000)
    assert "96.7 %** accuracy" in said and "0.9 points below" in said
    assert "**2.8 times as much** as its images" in said
    metrics["10 %"] |= {"test_accuracy": 0.98, "bytes": 297_920}
    assert "0.4 points above" in gradient_sharing_text.shared(
        metrics, "10 %", 20, 30, 100_000
    ) and "10 % of its images" in gradient_sharing_text.shared(metrics, "10 %", 20, 30, 100_000)
    assert "about the same as" in gradient_sharing_text.shared(metrics, "10 %", 20, 30, 1000)
    metrics["10 %"]["bytes"] = 3_000_000
    assert "**about as much** as its images" in gradient_sharing_text.shared(
        metrics, "10 %", 20, 30, 1000
    )
    metrics["each client alone"]["test_accuracy"] = 0.7
    metrics["10 %"]["test_accuracy"] = 0.7
    assert (
        "sharing made it worse" in gradient_sharing_text.shared(metrics, "10 %", 20, 30, 1000)
        and "worse" not in said
    )
    assert (
        "forgets what the initial model knew"
        in gradient_sharing_text.shared(metrics, "10 %", 20, 30, 1000)
        and "forgets" not in said
    )


def test_a_round_tells_who_sent_and_who_did_not():
    said = gradient_sharing_text.round_text(2, 30, [100, 200, 0, -1, -2, -3], 0.9, 50)
    assert (
        "2 of the 6 drawn upload, 300 bytes" in said
        and all(
            f"1 {what}" in said
            for what in ("refused", "dropped out", "not sampled", "without images")
        )
        and "90.0 %" in said
    )


def test_whose_promise_it_is_decides_what_is_guessed():
    server, client = (
        gradient_sharing_text.user_level(
            promise(0.7), SharingPlan(Streams(0), 2.0, 1.0), 30, 100, by_client
        )
        for by_client in (False, True)
    )
    assert "whether you took part" in server and "two sets of images" in client
    assert "nothing is guaranteed to anyone" in gradient_sharing_text.user_level(
        promise(None, None), SharingPlan(Streams(0)), 30, 100, False
    )


def test_charts_of_sharing_draw_what_they_are_given():
    curves = {
        "no update": [(0, 0.8), (3, 0.8)],
        "10 %": [(0, 0.8), (3, 0.9)],
        "100 %": [(0, 0.8), (3, 0.95)],
    }
    drawn = gradient_sharing_charts.by_round(curves, list(curves), "10 %", 3, 0.1, private=False)
    assert [trace.name for trace in drawn.data] == list(curves) and list(drawn.data[2].y) == [
        80,
        95,
    ]
    by_bytes = gradient_sharing_charts.by_bytes(
        {"10 %": [(0, 0.8), (1000, 0.9)]}, {"no update": 0.8}, (500.0, 0.97), private=False
    )
    assert list(by_bytes.data[0].x) == [1000] and list(by_bytes.data[1].x) == [500]
    early = gradient_sharing_charts.by_round(
        {"10 %": [(0, 0.8)]}, list(curves), "10 %", 3, 0.1, private=False
    )
    # a line keeps its colour when others come
    assert early.data[0].line.color == drawn.data[1].line.color and early.layout.showlegend
    attempts = gradient_sharing_charts.rebuilding(
        {"psnr_db": [(1, 5.0), (60, 20.0), (61, 6.0), (120, 25.0)]}, 60
    )
    assert [list(trace.x) for trace in attempts.data] == [[1, 60], [1, 60]]
    by_epsilon = gradient_sharing_charts.by_epsilon(
        {"σ = 2": [(0.0, 0.8), (3.0, 0.85)]}, {"σ = 2": (2.9, 0.85)}, {"no update": 0.8}
    )
    assert list(by_epsilon.data[0].x) == [3.0] and list(by_epsilon.data[1].x) == [2.9]


def test_the_first_rounds_dip_is_explained_only_where_it_is_one():
    falls, rises = [(0.0, 0.87), (1.0, 0.86), (2.0, 0.9)], [(0.0, 0.87), (1.0, 0.88)]
    assert "Adam" in gradient_sharing_text.dip(falls, "adam", False)
    assert not any(
        (
            gradient_sharing_text.dip(rises, "adam", False),
            gradient_sharing_text.dip(falls, "sgd", False),
            gradient_sharing_text.dip(falls, "adam", True),
            gradient_sharing_text.dip(falls[:1], "adam", False),
            gradient_sharing_text.dip([], "adam", False),
        )
    )


def test_what_nobody_reaches_without_privacy_is_not_put_down_to_noise():
    means, ends = [(1.0, 0.90, 4.0), (3.0, 0.95, 2.0)], {4.0: [(1.0, 0.90)], 2.0: [(3.0, 0.95)]}
    assert "less noise, more epochs" in dp_training_text.least_epsilon(
        means, ends, 0.96, 0.98
    ) and "less noise, more epochs" in dp_training_text.least_epsilon(means, ends, 0.96)
    told = dp_training_text.least_epsilon(means, ends, 0.99, 0.98)
    assert "Without privacy it is 98.00 %" in told and "Use less noise" not in told


def test_a_bound_is_never_rounded_below_itself():
    assert [rounding.at_most(value) for value in (15.9434, 2.0, 0.0001, 2.9951)] == [
        "15.944",
        "2.000",
        "0.001",
        "2.996",
    ]
