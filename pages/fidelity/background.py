"""The longer texts of page Fidelity's tabs: where MiFID misleads, report 4, formulas."""

from __future__ import annotations

MIFID = """
MiFID (Bai et al. 2021) divides the Fréchet distance by how far generated images are from the
nearest training images, so that copying makes it large. Four things can mislead:

- **A threshold.** Above a mean cosine distance of 0.1, nothing is penalised. Whether a set falls
  below depends on the feature extractor. In a small network nearly all images look alike, and
  everything counts as memorised, even held-out images and noise.
- **A direction.** The paper measures how near each *generated* image is to a training image.
  torchmetrics measures how near each *training* image is to a generated one. A set that copies a
  quarter of the training images exactly leaves the other three quarters as far away as before, and
  is hardly penalised. See the row of exact copies.
- **Zero over zero.** A copy of the whole training set has distance 0, and torchmetrics returns 0.0:
  perfect. By the paper's formula it is 0 over 0, and rounding decides.
- **No reference.** A held-out image has near neighbours, too, so a small distance alone proves
  nothing. The memorisation finder above compares with held-out images.

Its two parts also work against each other. Noise moves images away from all real ones, which raises
the Fréchet distance and lowers the penalty. So MiFID can rise or fall with privacy, whatever was
memorised.
"""

REPORT = """
Report 4 (Faber) trained a DCGAN on faces (CelebA, grey, 64 x 64), with Opacus on the discriminator
and without. With privacy, FID rose from 1.58 to 4.80 and MiFID fell from 2460 to 535. It concluded
that differential privacy reduces memorisation. But an *untrained* generator in its own notebook
scores 2316, so by this measure noise would be memorised as well as faces. Its FID is over 64
features of Inception-v3; the name stands for 2,048. Its images reach the metric in [−1, 1] where
[0, 1] is expected, so dark pixels wrap around. The table shows our sets by its two metrics, with
that mistake and without.
"""

FORMULAS = r"""
With $\mu, \Sigma$ the mean and covariance of the features of real ($r$) and generated ($g$)
images, the **Fréchet distance** is $\lVert \mu_r - \mu_g \rVert^2 + \mathrm{tr}\big(\Sigma_r +
\Sigma_g - 2 (\Sigma_r \Sigma_g)^{1/2}\big)$; over Inception-v3's 2,048 features it is called FID
(Heusel et al. 2017).

**Kernel distance**: the squared maximum mean discrepancy with $(x \cdot y / d + 1)^3$, without bias
(Bińkowski et al. 2018). **Precision**: the share of generated images inside the real ones' balls
to their third neighbour; **recall** the other way round (Kynkäänniemi et al. 2019).

**MiFID**: Fréchet distance over $m$ where $m < 0.1$, with $m$ the mean of
$\min_j (1 - |\cos(g_i, r_j)|)$ over generated images $i$ (Bai et al. 2021), or over real ones
(torchmetrics 1.9).

**Like a copy**: with $d$ the distance to the nearest image (pixels minus their mean, scaled to
length 1; or features), the ratio $d(x, \text{training}) / d(x, \text{held out})$ is below the value
that 5 % of the held-out images themselves are below. If there are fewer training images than half
of the held-out ones, as many held-out images are used for the comparison, and the others for the
5 %. **Memorised**: a training image that is nearest to a generated image whose ratio is below one
third of the value that 1 % of held-out images are below.

**The private GAN**: at every step of the discriminator $D$, for a Poisson batch $B$ of real
images and generated ones $G(z_j)$, $\tilde g = \tfrac1{qn}\big(\sum_{i \in B}
\mathrm{clip}_C(\nabla \ell(D(x_i), 1)) + \mathcal N(0, \sigma^2 C^2 I) + \sum_j
\mathrm{clip}_C(\nabla \ell(D(G(z_j)), 0))\big)$. $G$ learns from $D$ alone, so whatever it makes
costs no further privacy.

**DP-MERF** (Harder et al. 2021): with $\varphi(x) = (\cos \omega_k \cdot x, \sin \omega_k \cdot
x)_k / \sqrt K$, $\omega_k \sim \mathcal N(0, I / \ell^2)$, the single release is
$\sum_i \varphi(x_i) \otimes (e_{y_i})$ with 0.1 times the sizes of the classes, all under noise of
$\sigma \sqrt{1 + 0.1^2}$. Then $G$ is trained until its own mean matches.
"""
