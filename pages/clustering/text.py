"""Texts of page Clustering; pure functions."""

from __future__ import annotations

from engine.core import rounding
from engine.core.study import Result
from engine.studies.clustering import IIC
from pages.common import sentences

TITLE = "Can a machine cluster noised images without labels?"

INTRODUCTION = """
Labels reveal something about people, too. Without any label, a machine can put noised images into
clusters, and whoever looks at a cluster can name it. **Choose the noise level, press Run, and see
how many images land in the right cluster.** (This page re-examines report 1, a student report by
Green, Hodson and Hanoian, 2020.)
"""

NOT_NOISED = (
    "The images are not noised, so there is no noise level to choose, and nothing is guaranteed."
)

KMEANS = (
    "There are as many centres as clusters. Each image joins the nearest centre, and each centre"
    " moves to the mean of its cluster, again and again."
)

IIC_IN_WORDS = (
    "A network learns to put an image and its rotated and shifted copies into the same cluster,"
    " using all clusters equally."
)

SUB_HEADS = (
    "One line for each *sub-head*, an independent attempt at the clusters. Dark: the one with the"
    " lowest training loss, chosen without labels."
)

BUDGETS = """
*Nominal ε* is the value that the chosen noise formula starts from. *Actual ε* is what its noise
guarantees over all releases of an image. The errors of report 1 are read off its figure 4. It used
all of MNIST, the paper's convolutions and 40 epochs, and made errors that are corrected here unless
they are switched on.
"""

CONFUSION = (
    "Each cell counts the training images of a class (row) in a cluster (column). Left: clusters as"
    " numbered. Right: each cluster under the class that it stands for."
)

REPORT = """
Report 1 (Green, Hodson and Hanoian 2020) noised MNIST and let K-means and IIC find the labels. Its
errors are settings of this page:

- **Matching.** Its confusion matrix for K-means (figure 3) took cluster number 3 for the digit 3.
  Matched, our clusters are right for more than half of the digits (0.55 at its own noise level).
- **Unit length.** Its IIC code (built on astirn/IIC) scaled 700 images together to length 1, so
  that the noise on each image was √700 = 26 times stronger than intended.
- **Noise draws.** It drew fresh noise for each copy in each epoch, and counted one release.
- **Noise formula.** It used the textbook σ far outside the range where that formula is proved.

It found matched errors of 0.055 on raw images, 0.89 at ε = 150 and 2000, 0.29 at 3000, 0.30 at 5000
and 0.05 at 200,000 (read off its figure 4), and concluded that clustering only works at absurd
budgets.
"""

FORMULAS = r"""
**K-means** (Lloyd): clusters $C_1 \dots C_k$ with centres $\mu_j$ that make
$\sum_j \sum_{x \in C_j} \lVert x - \mu_j \rVert^2$ small. Of several starts, the one with the
smallest sum is kept.

**IIC** (Ji, Henriques and Vedaldi 2019): for images $x$, transformed copies $x'$ and soft cluster
assignments $\Phi$, the joint distribution is $P = \tfrac1n \sum \Phi(x)\,\Phi(x')^{\mathsf T}$,
made symmetric. The training maximises the mutual information
$\sum_{c,c'} P_{cc'} \left( \ln P_{cc'} - \lambda \ln P_c - \lambda \ln P_{c'} \right)$.

**Matching**: the one-to-one map from clusters to classes for which most images are right (Kuhn
1955). True labels are used for evaluation only.

**Several releases**: $m$ independent draws of noise $\sigma$ on one image reveal as much as one
draw of $\sigma / \sqrt m$.
"""

POST_PROCESSING = (
    "Clusters found in noised images are *post-processing*: they cost no further privacy, and"
    " neither do networks trained on them. Clusters found in raw images, and labels made from them,"
    " carry no guarantee."
)

FIXED_WAVELETS = (
    "Report 1 drew noise again in each epoch. The fixed wavelets compute the features of all copies"
    " once, before the first epoch, so the epochs share the draws. With convolutions they do not,"
    " and the number of releases is multiplied by the number of epochs."
)


def stands_for(result: Result) -> str:
    """The class that each row of the images stands for, from the top."""
    found = sorted(int(c) for c in result.arrays["matching"] if c >= 0)
    names = ", ".join(sentences.plain(result.facts["classes"][c]) for c in found[:12])
    return f"From the top they stand for {names}{' …' if len(found) > 12 else ''}."


def agreement(metrics: dict[str, float]) -> str:
    """How well clusters and classes agree without any matching."""
    return (
        "Matched on the training images"
        f"{sentences.balanced(metrics, 'matched_accuracy')}. Agreement of clusters and classes"
        f" without matching, from 0 (none) to 1 (complete): NMI {metrics['nmi']:.3f}, ARI"
        f" {metrics['ari']:.3f}."
    )


def releases(iic: IIC) -> str:
    """The ε of one noise draw per image, and that of fresh noise for every copy."""
    once, fresh = (
        iic.replace(releases=kind, images="noised") for kind in ("corrected", "as_published")
    )
    count = fresh.release_count
    here = {True: "**This is what runs here.**", False: "This does not run here."}
    return (
        "- **One noise draw for each image** (corrected): the image leaves its phone noised once,"
        " and all copies are made from that. ε ="
        f" **{rounding.epsilon(once.earned(once.epsilon))}**. {here[iic.releases == 'corrected']}\n"
        f"- **Fresh noise for each transformed copy** (as published): **{count:,} releases** with"
        f" these settings, together ε = **{rounding.epsilon(fresh.earned(fresh.epsilon, count))}**."
        " Report 1 counted one. Averaging many noisy copies of an image removes the noise."
        f" {here[iic.releases == 'as_published']}"
    )
