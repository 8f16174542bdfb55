"""Texts of page Clustering; pure functions."""

from __future__ import annotations

CLUSTERING_REPORT = """
The report (Green, Hodson and Hanoian 2020) noised MNIST and let K-means and IIC find the labels.
Its K-means confusion matrix (figure 3) took cluster number 3 for the digit 3; ours, matched, are
right for more than half of the digits (0.55 at its own noise). Its IIC code (built on astirn/IIC)
scaled 700 pictures together to length 1, so that each picture's noise was √700 = 26 times stronger
than meant, drew fresh noise for every copy in every epoch while charging one release, and used the
textbook σ far outside its proof. It found matched errors of 0.055 raw, 0.89 at ε = 150 and
2000, 0.29 at 3000, 0.30 at 5000 and 0.05 at 200,000 (read off its figure 4), and concluded that
clustering survives only absurd budgets. Each of these errors is a switch above.
"""


CLUSTERING_FORMULAS = r"""
**K-means** (Lloyd): heaps $C_1 \dots C_k$ with centres $\mu_j$ that make
$\sum_j \sum_{x \in C_j} \lVert x - \mu_j \rVert^2$ small; of several starts the tightest is kept.

**IIC** (Ji, Henriques and Vedaldi 2019): for pictures $x$, transformed copies $x'$ and soft answers
$\Phi$, the joint $P = \tfrac1n \sum \Phi(x)\,\Phi(x')^{\mathsf T}$, made symmetric; learned is the
largest mutual information $\sum_{c,c'} P_{cc'} \left( \ln P_{cc'} - \lambda \ln P_c - \lambda \ln
P_{c'} \right)$.

**Matching**: the one-to-one map from heaps to classes that makes most pictures right (Kuhn 1955).
True labels are used for judging only.

**Many releases**: $m$ independent draws of noise $\sigma$ on one picture tell as much as one draw
of $\sigma / \sqrt m$.
"""
