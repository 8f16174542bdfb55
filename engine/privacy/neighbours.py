"""Neighbouring data sets, in words: what a guarantee compares where noise is added to a sum.

Sums are divided by an expected batch size q·n, means by n, and rates, steps and learning rates
follow from n. So n is public and must be the same in both data sets. One person's contribution is
therefore blanked, not added or removed: its place stays but adds nothing to any sum ("zero-out" in
Ponomareva et al. 2023, "How to DP-fy ML"). With q and the divisor fixed, the two outputs are those
that accountants for adding and removing compare, in both directions, so that is what is charged
(docs/guarantees.md).
"""

ONE_IMAGE = (
    "one training image blanked: its place stays, but it adds nothing to any step "
    "or sum; the number of images is fixed and public (zero-out)"
)
ONE_PARTICIPANT = (
    "one client blanked, with all its images and in all rounds: it adds "
    "nothing to any sum; the number of clients is fixed and public (zero-out)"
)
