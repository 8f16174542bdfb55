"""Batch-norm synthesis: statistics against numpy, the best images really the best, the private
release really bounded.
"""

import math

import numpy as np
import pytest
import torch

from engine.core.errors import Failed
from engine.core.lab import Lab
from engine.core.streams import Streams
from engine.core.study import Refused, key
from engine.datasets import registry
from engine.learning import networks, supervised
from engine.privacy.mechanism import Mechanism
from engine.privacy.noise import GaussianNoise
from engine.studies.synthesis import bn_inversion
from engine.studies.synthesis.bn_synthesis import BNSynthesis, as_bytes
from engine.studies.synthesis.classifier import Classifier, load_arrays, read_arrays
from engine.studies.synthesis.student import Student
from tests.conftest import finish, full_unless

TINY = BNSynthesis.preset("tiny")


@pytest.fixture(scope="module")
def digits():
    from engine.datasets import registry

    images = registry.load("mnist-5k")
    return torch.tensor(images.train_images[:600]), torch.tensor(images.train_labels[:600])


@pytest.fixture(scope="module")
def store(common):
    """The teachers are trained once."""
    return common


@pytest.fixture
def network(digits):
    """A narrow ResNet whose batch norms have recorded 600 digits."""
    network = networks.resnet("narrow", "batch", 1, 28, 10, 7)
    bn_inversion.record(network, digits[0])
    return network.requires_grad_(False)


def settings(**changes) -> bn_inversion.Settings:
    return bn_inversion.Settings(
        **{"kind": "smooth", "steps": 8, "rate": 0.3, "weights": bn_inversion.Weights()} | changes
    )


def by_hand(network, pixels, labels):
    """The objective in numpy float64, from the activations that a hook of the test's own sees."""
    seen = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.__setitem__(name, inputs[0].detach().double().numpy())
        )
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
    ]
    network.eval()
    logits = network(pixels * 2 - 1).double().numpy()
    for hook in hooks:
        hook.remove()
    total = 0.0
    for name, x in seen.items():
        layer = network.get_submodule(name)
        total += ((x.mean((0, 2, 3)) - layer.running_mean.double().numpy()) ** 2).sum() + (
            (x.var((0, 2, 3)) - layer.running_var.double().numpy()) ** 2
        ).sum()
    said = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    return total, -said[np.arange(len(labels)), labels.numpy()].mean()


# --- the objective --------------------------------------------------------------------------------


def test_the_objective_is_numpys(network):
    pixels, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    teacher = bn_inversion.Teacher(network, bn_inversion.recorded(network))
    with bn_inversion.Watch(network) as watch:
        found = bn_inversion.objective(
            pixels, labels, [teacher], bn_inversion.Weights(2.0, 3.0), [watch]
        )
    statistics, said = by_hand(network, pixels, labels)
    assert float(sum(found.distances.values())) == pytest.approx(statistics, rel=1e-4)
    assert float(found.labels) == pytest.approx(said, rel=1e-5)
    assert float(found.total) == pytest.approx(2 * statistics + 3 * said, rel=1e-4)


def test_mean_and_variance_have_the_gradient_of_finite_differences():
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bn_inversion.MeanAndVariance.apply, (x,))
    mean, variance = bn_inversion.MeanAndVariance.apply(x.detach())
    assert torch.allclose(mean, x.mean((0, 2, 3))) and torch.allclose(
        variance, x.var((0, 2, 3), correction=0)
    )


def test_real_images_have_a_smaller_distance_than_noise_and_a_planted_shift_is_seen(
    network, digits
):
    teacher = bn_inversion.Teacher(network, bn_inversion.recorded(network))
    real = digits[0].permute(0, 3, 1, 2).float() / 255
    with bn_inversion.Watch(network) as watch:

        def distance(pixels):
            return float(
                sum(
                    bn_inversion.objective(
                        pixels, digits[1][: len(pixels)], [teacher], bn_inversion.Weights(), [watch]
                    ).distances.values()
                )
            )

        same, shifted, noise = (
            distance(real),
            distance((real + 0.1).clamp(0, 1)),
            distance(torch.rand(600, 1, 28, 28)),
        )
    assert same < 0.1 * shifted < 0.1 * noise


def test_variation_and_norm_count_as_they_say(network):
    pixels, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    teacher = bn_inversion.Teacher(network, bn_inversion.recorded(network))
    with bn_inversion.Watch(network) as watch:
        plain, more = (
            float(
                bn_inversion.objective(
                    pixels, labels, [teacher], bn_inversion.Weights(variation=v, norm=n), [watch]
                ).total
            )
            for v, n in ((0, 0), (0.5, 0.25))
        )
    x = pixels.double().numpy()
    steps = (np.diff(x, axis=2) ** 2).sum() + (np.diff(x, axis=3) ** 2).sum()
    assert more - plain == pytest.approx(
        0.5 * steps / 4 + 0.25 * np.sqrt((x**2).sum((1, 2, 3))).mean(), rel=1e-4
    )


def test_statistics_of_each_class_are_numpys(network, digits):
    images, labels = digits
    found = bn_inversion.by_class(network, images, labels, 10)
    seen = []
    hook = network.bn1.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].double().numpy())
    )
    network(supervised.Scale().of(images[labels == 3]))
    hook.remove()
    mean, variance = found["bn1"]
    assert mean[3].numpy() == pytest.approx(seen[0].mean((0, 2, 3)), abs=1e-5) and variance[
        3
    ].numpy() == pytest.approx(seen[0].var((0, 2, 3)), rel=1e-4)


def test_several_teachers_are_averaged(network):
    other = networks.resnet("narrow", "batch", 1, 28, 10, 8).eval().requires_grad_(False)
    pixels, labels = torch.rand(10, 1, 28, 28), torch.arange(10)
    teachers = [
        bn_inversion.Teacher(each, bn_inversion.recorded(each)) for each in (network, other)
    ]
    totals = []
    for chosen in (teachers[:1], teachers[1:], teachers):
        watches = [bn_inversion.Watch(each.network).__enter__() for each in chosen]
        totals.append(
            float(
                bn_inversion.objective(
                    pixels, labels, chosen, bn_inversion.Weights(), watches
                ).total
            )
        )
        for watch in watches:
            watch.__exit__()
    assert totals[2] == pytest.approx((totals[0] + totals[1]) / 2, rel=1e-5)


def test_a_network_without_batch_norm_is_refused_in_words():
    with pytest.raises(ValueError, match="no batch norm layers"):
        bn_inversion.norm_layers(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)))
    with pytest.raises(ValueError, match="group norm remembers nothing"):
        bn_inversion.recorded(networks.resnet("narrow", "group", 1, 28, 10, 0))


# --- the images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"jitter": 2, "flip": True},
        {"kind": "pixels"},
        {"kind": "pixels", "rate": 5.0, "steps": 3},
    ],
    ids=str,
)
def test_the_best_images_have_the_least_objective_seen(network, changes):
    """A large step size makes the objective go up and down, so that the last images are not the
    best.
    """
    teacher = bn_inversion.Teacher(network, bn_inversion.recorded(network))
    batch = bn_inversion.Batch(
        settings(**changes), [teacher], torch.arange(20) % 10, (1, 28, 28), 1, 0
    )
    seen = [float(found.total.detach()) for _, found in bn_inversion.optimise(batch)]
    assert batch.least == min(seen)
    with bn_inversion.Watch(network) as watch:
        again = bn_inversion.objective(
            bn_inversion.viewed(batch.best, batch.best_view),
            batch.labels,
            [teacher],
            batch.settings.weights,
            [watch],
        )
    assert float(again.total) == pytest.approx(min(seen), rel=1e-5)
    if changes.get("rate"):
        assert max(seen) > 1.2 * seen[0]  # it does go up: 1.6 to 6 times over six seeds


def test_the_objective_falls_and_the_teacher_comes_to_agree(network):
    teacher = bn_inversion.Teacher(network, bn_inversion.recorded(network))
    batch = bn_inversion.Batch(
        settings(steps=40), [teacher], torch.arange(20) % 10, (1, 28, 28), 1, 0
    )
    found = [each for _, each in bn_inversion.optimise(batch)]
    assert float(found[-1].total.detach()) < 0.5 * float(found[0].total.detach())
    assert 0 <= float(batch.pixels.min()) and float(batch.pixels.max()) <= 1


def test_a_view_moves_and_mirrors():
    pixels = torch.arange(16.0).reshape(1, 1, 4, 4)
    moved = bn_inversion.viewed(pixels, (1, 0, False))  # one column to the left
    assert torch.equal(moved[..., :3], pixels[..., 1:]) and not moved[..., 3].any()
    assert torch.equal(bn_inversion.viewed(pixels, (0, 0, True)), pixels.flip(3))
    assert torch.equal(bn_inversion.viewed(pixels, (0, 0, False)), pixels)


def test_smooth_images_have_smaller_steps_between_neighbours_than_free_ones():
    free = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    rough, smooth = (
        float(bn_inversion.variation(kind(free)) / kind(free).var())
        for kind in (bn_inversion.free_pixels, bn_inversion.smooth)
    )
    assert smooth < 0.5 * rough


# --- statistics under differential privacy --------------------------------------------------------


def released(network, images, noise=1e-9, seed=0, clip=1.0):
    return bn_inversion.private_statistics(network, images, noise, clip, GaussianNoise(seed))


def test_one_image_moves_the_released_sum_by_no_more_than_the_sensitivity(digits):
    """Of all images, also of one with huge activations; the sum is found back from means and
    count.
    """
    network = networks.resnet("narrow", "plain group", 1, 28, 10, 3).eval()
    layers = bn_inversion.norm_layers(network)

    def vector(images):  # the sum that is released, without noise
        total = []
        for mean, variance in released(network, images).values():
            moments = torch.cat([mean, variance + mean.square()])
            total.append(moments * bn_inversion.weight(len(layers), len(mean)) * len(images))
        return torch.cat([*total, torch.tensor([float(len(images))])]).double()

    images = digits[0][:6]
    whole = vector(images)
    for left_out in range(6):
        rest = vector(images[[i for i in range(6) if i != left_out]])
        assert float((whole - rest).norm()) <= math.sqrt(2) * (1 + 1e-4)


def test_a_vector_longer_than_the_clip_is_shortened(digits):
    network = networks.resnet("narrow", "plain group", 1, 28, 10, 3).eval()
    lengths = []
    for clip in (100.0, 0.1):
        found = released(network, digits[0][:1], clip=clip)
        vector = torch.cat(
            [
                torch.cat([m, v + m.square()]) * bn_inversion.weight(len(found), len(m))
                for m, v in found.values()
            ]
        )
        lengths.append(float(vector.norm()))
    assert lengths[0] > 0.2 and lengths[1] == pytest.approx(0.1, rel=1e-3)


def test_the_noise_has_the_size_that_is_charged_and_a_planted_smaller_one_is_rejected(digits):
    network = networks.resnet("narrow", "plain group", 1, 28, 10, 3).eval()
    exact = released(network, digits[0])

    def deviation(noise):
        errors = []
        for seed in range(30):
            for name, (mean, _) in released(network, digits[0], noise, seed).items():
                errors.append(
                    (mean - exact[name][0])
                    * bn_inversion.weight(len(exact), len(mean))
                    * len(digits[0])
                )
        return float(torch.cat(errors).std())

    wanted = 5.0 * math.sqrt(2)
    assert deviation(5.0) == pytest.approx(wanted, rel=0.04)
    assert deviation(4.5) != pytest.approx(wanted, rel=0.04)


def test_an_image_that_gives_no_number_gives_nothing_but_its_count(digits):
    network = networks.resnet("narrow", "plain group", 1, 28, 10, 3).eval()
    network.conv1.weight.data[0] = float("inf")
    for mean, variance in released(network, digits[0][:5]).values():
        assert mean.abs().max() < 1e-6 and variance.abs().max() < 1e-6


def test_private_training_takes_the_steps_and_adds_the_noise_that_are_charged(digits):
    """With a tiny clip norm all that moves the weights is noise: rate · σ · C / expected batch in
    each step, and σ at 0.9 is found out.
    """

    def moved(noise):
        network = networks.resnet("narrow", "plain group", 1, 28, 10, 3)
        before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        mechanism = Mechanism(noise, 1e-3, 1 / 4, 8)
        fit = supervised.PrivateFit(
            network, *digits, mechanism, learning_rate=1.0, streams=Streams(0)
        )
        steps = sum(1 for _ in range(2) for _ in fit.epoch())
        return steps, float(
            (torch.cat([p.detach().flatten() for p in network.parameters()]) - before).std()
        )

    steps, size = moved(50.0)
    wanted = 50.0 * 1e-3 / 150 * math.sqrt(8)
    assert steps == 8 and size == pytest.approx(wanted, rel=0.02)
    assert moved(45.0)[1] != pytest.approx(wanted, rel=0.02)


# --- training -------------------------------------------------------------------------------------


def test_hard_and_soft_losses_are_numpys():
    outputs, logits = torch.randn(5, 4), torch.randn(9, 4)
    labels, rows = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0]), torch.tensor([8, 1, 4, 2, 0])

    def soft(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    o, t = outputs.double().numpy(), logits.double().numpy()[rows]
    hard = -np.log(soft(o)[np.arange(5), labels.numpy()[rows]]).mean()
    divergence = 9 * (soft(t / 3) * (np.log(soft(t / 3)) - np.log(soft(o / 3)))).sum(1).mean()
    for share in (0.0, 0.3, 1.0):
        recipe = supervised.Recipe(1, 5, 0.1, temperature=3.0, soft_share=share)
        fit = supervised.Fit(
            torch.nn.Linear(2, 4),
            recipe,
            torch.zeros(9, 2, 2, 1, dtype=torch.uint8),
            labels,
            0,
            logits,
        )
        assert float(fit.wanted(outputs, rows)) == pytest.approx(
            (1 - share) * hard + share * divergence, rel=1e-5
        )


def test_noise_shift_flip_and_mixup_change_images_and_repeat_with_the_seed():
    x = torch.rand(6, 1, 8, 8)

    def changed(**more):
        fit = supervised.Fit(
            torch.nn.Linear(2, 2),
            supervised.Recipe(1, 6, 0.1, **more),
            torch.zeros(6, 8, 8, 1, dtype=torch.uint8),
            torch.zeros(6),
            3,
        )
        return fit.changed(x)

    for more in ({"pixel_noise": 1.0}, {"shift": 2}, {"flip": True}, {"mixup": 1.0}):
        first, second = changed(**more), changed(**more)
        assert torch.equal(first[0], second[0]) and not torch.equal(first[0], x), more
    assert torch.equal(changed()[0], x)
    mixed, share, other = changed(mixup=1.0)
    assert torch.allclose(mixed, share * x + (1 - share) * x[other])


# --- the studies ----------------------------------------------------------------------------------


def test_snapshots_are_those_of_one_run_that_was_stopped_earlier(store):
    """The images after 2 of 6 steps are the same as those of a run of 2 steps."""
    _, long = finish(TINY.run(Lab(store)))
    short = TINY.replace(**{"steps": 2, "snapshots": "2"})
    _, other = finish(short.run(Lab(store)))
    assert np.array_equal(long.arrays["images_2"], other.arrays["images_2"])
    assert not np.array_equal(long.arrays["images_2"], long.arrays["images_6"])
    assert long.arrays["images_6"].dtype == np.uint8 and long.arrays["images_6"].shape == (
        40,
        28,
        28,
        1,
    )
    assert long.guarantee.epsilon is None and "memorised" in long.guarantee.note


def test_controls_score_as_they_must(store):
    _, result = finish(TINY.run(Lab(store)))
    copied, held = (
        result.facts["controls"]["copies of training images"],
        result.facts["controls"]["held-out images"],
    )
    for space in ("pixels", "features"):
        assert (
            copied[f"copies_{space}"] == 1
            and copied[f"ratio_{space}"] == 0
            and copied[f"membership_{space}"] > 0.95
        )
        assert held[f"copies_{space}"] < 0.12 and abs(held[f"membership_{space}"] - 0.5) < 0.05


def test_a_private_teacher_keeps_its_budget_with_the_statistics_counted(store):
    study = TINY.replace(**{"private": True, "target_epsilon": 4.0})
    _, result = finish(study.run(Lab(store)))
    assert 3.9 < result.guarantee.epsilon <= 4.0 and "post-processing" in result.guarantee.note
    teacher = study.teacher
    mechanism = teacher.mechanism(4000)
    from engine import privacy

    noise, rate, steps, _ = mechanism.run
    alone = privacy.dp_sgd_epsilon(noise, rate, steps, teacher.delta).epsilon
    assert alone < result.guarantee.epsilon - 0.05  # the statistics are not free
    promise, area = result.guarantee, result.metrics["area_mechanism"]
    # areas have their own bound
    assert promise.odds_mechanism < area <= result.metrics["area_any"] < 1
    assert promise.odds_mechanism <= promise.odds_undrawn and result.facts["asked"] == 1000


def test_a_table_of_students_shares_teacher_and_images(store):
    student = Student.preset("tiny")
    table = student.table()
    assert list(table) == [
        "hard labels, 2 steps",
        "hard labels, 6 steps",
        "soft labels, 2 steps",
        "soft labels, 6 steps",
        "real images",
    ]
    assert len({key(each) for each in table.values()}) == 5
    assert {key(each.synthesis) for name, each in table.items() if name != "real images"} == {
        key(student.synthesis)
    }
    assert (
        key(student) == key(table["hard labels, 6 steps"]) == key(Student.preset("tiny", after=6))
    )
    # how images are made is all the same to it
    assert key(table["real images"]) == key(
        student.replace(steps=50, synthesis_learning_rate=0.1).on_real()
    )


@pytest.mark.parametrize("rate", [pytest.param(0.05, marks=pytest.mark.full), 5.0])
def test_the_last_snapshot_can_be_the_best_and_is_stored_as_it_was(store, rate):
    """The best is found once more from the curves of a run that keeps every step: which one it is
    does not matter here.

    Small steps always descend; large ones overshoot (the last objective is 1.6 to 2.8 times the
    least, over three seeds).
    """
    study = BNSynthesis.preset(
        "tiny",
        pixels="pixels",
        rate=rate,
        jitter=0,
        images=20,
        steps=5,
        snapshots="1,2,3,4,5",
        ending="best",
    )
    _, best = finish(study.run(Lab(store)))
    _, last = finish(study.replace(**{"ending": "last"}).run(Lab(store)))
    parts = [points for name, points in last.curves.items() if name.startswith("distance:")]
    objective = [
        study.statistics_weight * sum(points[step][1] for points in parts)
        + study.labels_weight * last.curves["label_loss"][step][1]
        for step in range(5)
    ]
    made = bn_inversion.Batch(
        bn_inversion.Settings("pixels", 5, rate, bn_inversion.Weights()),
        [],
        torch.arange(20) % 10,
        (1, 28, 28),
        study.seed,
        0,
    )
    # of each step, which its objective is of
    before = [as_bytes(made.pixels), *(last.arrays[f"images_{step}"] for step in range(1, 5))]
    assert all(np.array_equal(best.arrays[f"images_{step}"], before[step]) for step in range(1, 5))
    assert np.array_equal(best.arrays["images_5"], before[int(np.argmin(objective))])
    assert (np.argmin(objective) < 4) == (rate == 5.0) and len(
        {each.tobytes() for each in before}
    ) == 5


def test_agreement_is_that_of_the_released_bytes(store):
    from engine.core.lab import load
    from engine.studies.synthesis.classifier import taught

    list(Lab(store).need(TINY))
    result, teacher = load(store, key(TINY)), TINY.teacher
    network, scale = taught(teacher, load(store, key(teacher)), 1, 28, torch.device("cpu"))
    said = (
        supervised.outputs(network, torch.tensor(result.arrays["images_6"]), scale)
        .argmax(1)
        .numpy()
    )
    assert result.metrics["teacher_agrees"] == pytest.approx(
        (said == result.arrays["labels"]).mean(), abs=1e-6
    )


@pytest.mark.parametrize(
    "options",
    full_unless(
        lambda options: "class_wise" in options,
        [
            {"teachers": 2, "softness": 0.2, "flip": True},
            {"class_wise": True},
            {"forward": "batch", "variation": 0.01, "norm": 0.01},
        ],
    ),
    ids=str,
)
def test_every_option_of_the_making_runs_and_changes_the_images(store, options):
    plain, other = (finish(study.run(Lab(store)))[1] for study in (TINY, TINY.replace(**options)))
    assert not np.array_equal(plain.arrays["images_6"], other.arrays["images_6"])


@pytest.mark.full
def test_a_student_hears_all_teachers(store):
    _, both = finish(Student.preset("tiny", teachers=2, soft_share=1.0).run(Lab(store)))
    assert 0 <= both.metrics["test_accuracy"] <= 1 and both.guarantee.epsilon is None


def test_presets_and_their_tables_fit_their_data_sets():
    from dataclasses import replace

    from engine.datasets import registry

    sizes = {
        "cifar10": (50_000, 32, 3),
        "fashion-mnist": (60_000, 28, 1),
        "mnist-5k": (4000, 28, 1),
    }
    for preset in Student.PRESETS:
        student = Student.preset(preset)
        n, size, channels = sizes[student.dataset]
        stand_in = replace(
            registry.preview("mnist-5k"),
            train_size=n,
            test_images=np.zeros((1000, size, size, channels), np.uint8),
        )
        for each in student.table().values():
            each.check(stand_in)


def test_what_does_not_matter_shares_results():
    plain, same, warm = (
        Student.preset("quick", **more)
        for more in ({}, {"target_epsilon": 3.0, "statistics_noise": 9.0}, {"temperature": 5.0})
    )
    assert key(plain.synthesis) == key(same.synthesis)
    plain, same, warm = plain.table(), same.table(), warm.table()
    assert all(key(plain[name]) == key(same[name]) for name in plain)
    assert all(
        (key(plain[name]) == key(warm[name])) == (not name.startswith("soft")) for name in plain
    )


@pytest.mark.full
def test_a_step_size_beyond_reason_ends_in_words_or_in_numbers(store):
    for study in (
        Classifier.preset("tiny", learning_rate=100.0),
        TINY.replace(**{"statistics_weight": 1000.0, "synthesis_learning_rate": 10.0}),
        Student.preset("tiny", student_learning_rate=10.0, student_optimizer="sgd"),
    ):
        try:
            _, result = finish(study.run(Lab(store)))
        except Failed as failed:
            assert "smaller" in str(failed)
        else:
            assert all(np.isfinite(value) for value in result.metrics.values())


BAD = [
    ({"snapshots": "0,6"}, "at least 1 step"),
    ({"snapshots": "50,10"}, "must ascend"),
    ({"snapshots": "10,10"}, "must ascend"),
    ({"snapshots": "10,500"}, "it would never come"),
    ({"images": 3}, "each needs an image"),
    ({"images": 50_000, "snapshots": "1,2,3,4,5,6"}, "MB; allowed"),
    ({"weights": "given", "private": True}, "not allowed for a private teacher"),
    ({"private": True, "class_wise": True}, "class_wise: true"),
    ({"class_wise": True, "synthesis_batch_size": 10}, "at least 20"),
    ({"weights": "given", "teachers": 2}, "there is one file"),
    ({"batch_size": 9000}, "4000 training images"),
    ({"private": True, "forward": "batch"}, "forward: batch"),
]


@pytest.mark.parametrize(("changes", "words"), BAD, ids=lambda value: str(value)[:30])
def test_what_does_not_fit_is_refused_in_words(changes, words):
    from engine.datasets import registry

    with pytest.raises(Refused) as refused:
        BNSynthesis.preset("quick", **changes).check(registry.preview("mnist-5k"))
    assert words in str(refused.value)


def test_a_student_of_a_snapshot_that_there_is_not_is_refused():
    with pytest.raises(Refused, match="there are snapshots after 10, 25, 50, 75, 100 steps"):
        Student.preset("quick", after=60)


# --- weights from a file --------------------------------------------------------------------------


def given(tmp_path, monkeypatch, content) -> Classifier:
    monkeypatch.setenv("VEIL_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "narrow_mnist-5k.npz"
    path.write_bytes(content) if isinstance(content, bytes) else np.savez(path, **content)
    return Classifier(weights="given")


def arrays_of(network) -> dict:
    return {
        name: value.numpy()
        for name, value in network.state_dict().items()
        if "num_batches" not in name
    }


def test_given_weights_are_those_that_are_used_and_another_file_is_another_key(
    tmp_path, monkeypatch, store
):
    network = networks.resnet("narrow", "batch", 1, 28, 10, 5)
    study = given(tmp_path, monkeypatch, arrays_of(network))
    first = key(study)
    _, result = finish(study.run(Lab(store)))
    assert np.array_equal(
        result.arrays["weight:conv1.weight"], network.conv1.weight.detach().numpy()
    )
    np.savez(
        tmp_path / "weights" / "narrow_mnist-5k.npz",
        **arrays_of(networks.resnet("narrow", "batch", 1, 28, 10, 6)),
    )
    assert key(study) != first


def test_a_pickled_file_is_not_unpickled(tmp_path, monkeypatch, store):
    import os
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    for content in (
        pickle.dumps({"conv1.weight": Bomb()}),
        {"conv1.weight": np.array([Bomb()], object)},
    ):
        for path in (tmp_path / "weights").glob("*"):
            path.unlink()
        (tmp_path / "weights").rmdir() if (tmp_path / "weights").exists() else None
        study = given(tmp_path, monkeypatch, content)
        with pytest.raises(Failed, match="not a file of plain arrays"):
            finish(study.run(Lab(store)))
        assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda arrays: arrays.pop("linear.bias"), "has no linear.bias"),
        (
            lambda arrays: arrays.update({"conv1.weight": np.zeros((16, 3, 3, 3), np.float32)}),
            "has shape",
        ),
        (
            lambda arrays: arrays.update({"linear.bias": np.full(10, np.nan, np.float32)}),
            "not finite",
        ),
        (
            lambda arrays: arrays.update({"bn1.running_var": np.full(16, -1, np.float32)}),
            "negative variances",
        ),
        (lambda arrays: arrays.update({"linear.bias": np.zeros(10, "U3")}), "has shape"),
    ],
    ids=["missing", "shape", "nan", "negative", "text"],
)
def test_weights_of_another_network_are_refused_in_words(tmp_path, spoil, words):
    network = networks.resnet("narrow", "batch", 1, 28, 10, 5)
    arrays = arrays_of(network)
    spoil(arrays)
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(Failed, match=words):
        load_arrays(network, read_arrays(tmp_path / "some.npz"), "some.npz")


def test_damaged_files_of_weights_are_refused_in_words(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays_of(networks.resnet("narrow", "batch", 1, 28, 10, 5)))
    whole = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for content in (
        whole[:5000],
        b"",
        b"PK\x03\x04" + b"x" * 100,
        (tmp_path / "array.npy").read_bytes(),
        whole[:300] + b"?" * 40 + whole[340:],
    ):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(Failed, match="bad.npz"):
            load_arrays(
                networks.resnet("narrow", "batch", 1, 28, 10, 5),
                read_arrays(tmp_path / "bad.npz"),
                "bad.npz",
            )


def test_a_missing_file_of_weights_is_told_with_what_to_do(tmp_path, monkeypatch):
    from engine.datasets import source

    monkeypatch.setenv("VEIL_DATA", str(tmp_path))
    with pytest.raises(source.Missing, match="narrow_mnist-5k.npz"):
        key(Classifier(weights="given"))


def test_a_budget_that_the_statistics_alone_would_spend_is_refused_beforehand():
    study = BNSynthesis(private=True, target_epsilon=0.9)
    with pytest.raises(
        Refused, match="target_epsilon: 0.9 is not allowed; the noised statistics alone spend 0.927"
    ):
        study.check(registry.preview("mnist-5k"))
    BNSynthesis(private=True, target_epsilon=0.9, statistics_noise=8.0).check(
        registry.preview("mnist-5k")
    )
