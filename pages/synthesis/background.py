"""The longer texts of page Synthesis' tabs: report 2, how to get a guarantee, formulas."""

from __future__ import annotations

REPORT = """
Report 2 ([arXiv 2210.03205](https://arxiv.org/abs/2210.03205), 2022) takes a ResNet20 trained on
CIFAR-10, changes free pixels until the batch-norm statistics match, and trains a ResNet20 from
scratch on the result, with hard labels. It says that privacy falls as accuracy rises, but it
measures no privacy and states no guarantee. The numbers of steps and of images are missing from its
text. Its free pixels are a choice among the settings.
"""

HOW_TO_PROTECT = """
Statistics of images, and networks trained on them, carry **no** guarantee, however odd the
synthetic images look: nothing limits what one person's image may have changed. A guarantee needs
noise that was added on purpose. A network trained by DP-SGD has one, but it cannot use batch norm,
where one image changes the output for all others of its batch. Group norm, which it uses instead,
keeps no statistics that could be matched.

The preset *A private teacher* shows a way. (It is our own addition, with its proof in
docs/synthesis.md.) The teacher learns by DP-SGD with group norm. Then each training image
contributes one vector: the means and mean squares of what every layer computes from it. The vectors
are clipped to a fixed norm and added up, and Gaussian noise is added to the sum, once. ε covers
both, training and statistics. Everything that is made from them, images and students, costs no
further privacy.
"""

FORMULAS = (
    r"""
Images $x$ with intended labels $y$ are changed to minimise

$$\sum_l \Big( \lVert \mu_l(x) - \hat\mu_l \rVert_2^2"""
    r""" + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2^2 \Big) + \mathrm{CE}(f(x), y),$$

where $\hat\mu_l, \hat\sigma_l^2$ are what batch norm $l$ recorded of the training data, and
$\mu_l(x), \sigma_l^2(x)$ are the same for the synthetic images.

**Like a copy**: with $d$ the distance to the nearest image (each image minus its mean, scaled to
length 1), $d(x, \text{training}) / d(x, \text{held out})$ is below the value that 5 % of the
held-out images themselves are below.

**Attack AUC**: the area under the ROC curve of minus the distance from a real image to the nearest
released one, for training images against held-out ones.

**Noised statistics**: with $v_i$ the vector of image $i$, $\lVert v_i \rVert_2 \le C$, the release
is $\sum_i (v_i, 1) + \mathcal N(0, \sigma^2 (C^2 + 1) I)$, a Gaussian mechanism with noise
multiplier $\sigma$: an image that is blanked out adds $(0, 0)$.
"""
)
