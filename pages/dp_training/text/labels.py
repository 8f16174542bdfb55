"""What trainings, planted bugs and the verdicts of checks are called."""

from __future__ import annotations

from engine.studies.dp_training import DPTraining

WHO = {
    "private": "with privacy",
    "not private": "without privacy",
    "no noise": "clipped, without noise",
}
BUGS = {
    "none": "Choose a bug and see whether the auditor finds it.",
    "no clipping": (
        "Gradients are not clipped: one atypical image can dominate a step, and the noise no longer"
        " hides it."
    ),
    "half the noise": "Only half of the noise that ε accounts for is added.",
    "shuffled batches": (
        "Each epoch uses every image exactly once, as usual without privacy. ε assumes that each"
        " image is sampled at random."
    ),
    "float32 noise": (
        "The noise comes from an ordinary float32 generator. Far from zero it takes few values, so"
        " one image can show as a value that noise alone never takes."
    ),
}


def who_of(study: DPTraining) -> str:
    """'private', 'not private', or 'no noise' if gradients are clipped but not noised."""
    if not study.private:
        return "not private"
    return "no noise" if study.noise_multiplier == 0 else "private"


def verdict(check: dict) -> str:
    """The verdict of a check; one that could not have detected its error says so."""
    return "failed" if not check["kept"] else "inconclusive" if check["blind"] else "passed"
