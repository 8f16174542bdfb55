"""Report 3 (Boulif and Durand 2021) and the formulas behind page DP training."""

REPORT = """
Report 3 (Boulif and Durand 2021) trained a small CNN with TensorFlow Privacy: two convolutions with
max-pooling, a dense ReLU layer and a softmax. It does not give the layers' sizes; ours are those of
the tutorial that it builds on. The preset *CNN of report 3* combines what its figures on MNIST
share: learning rate 0.1, noise multiplier 0.5 and clip norm 4 (figures 3 and 7), 15 epochs
(figure 4, where the rate is 0.08) and δ = 1e-5. The batch size of 256 is the tutorial's, because
the text gives none. The report found an accuracy of about 0.9 at clip norms 1, 2 and 4 and a drop
at 8, about 95 % without privacy, Adam and Adagrad ahead of SGD, and lower accuracy at smaller ε.
Its text has two slips: it states the sensitivity in the L1 norm, where the Gaussian mechanism needs
L2, and "0.9 %" means a fraction of 0.9.
"""


FORMULAS = (
    r"""
Each step draws a batch $B$, which each image joins independently with probability $q$. With $g_i$
the gradient of image $i$,

$$\tilde g = \frac{1}{q n}\Big(\sum_{i \in B} g_i"""
    r""" \cdot \min\!\big(1, \tfrac{C}{\lVert g_i \rVert_2}\big)"""
    r""" + \mathcal N(0, \sigma^2 C^2 I)\Big).$$

$C$ is the clip norm (max_grad_norm), $\sigma$ the noise multiplier, $q n$ the *expected* batch
size. The training is $(\varepsilon, \delta)$-differentially private: for every set $S$ of networks
and all data sets $D, D'$ of $n$ images, one of which is blanked in one of them (it adds nothing to
any sum; $n$ is public), $P[M(D) \in S] \le e^{\varepsilon} P[M(D') \in S] + \delta$ (Abadi et al.
2016). During training, $\varepsilon$ is composed over the steps with Rényi divergences; at the end,
it is computed from the privacy loss distribution.

**The linear model** uses fixed features $x$ of an image, with $\lVert x \rVert_2 \le R$, minus a
mean that is released once, $m = \tfrac1n \big(\sum_i x_i + \mathcal N(0, \sigma_m^2 R^2 I)\big)$,
which $\varepsilon$ includes. With the residual $r = \mathrm{softmax}(W(x - m) + b) - y$, its
gradient is $r \otimes (x - m, 1)$, of norm
$\lVert r \rVert_2 \sqrt{\lVert x - m \rVert_2^2 + 1}$.

**Several networks**: publishing all of them, or the best one, spends the composition of all their
privacy loss distributions.

**The audit's lower bound**: with $m$ canaries, $r$ guesses, $v$ of them right, and $B \sim
\mathrm{Bin}\big(r, \tfrac{e^\varepsilon}{1 + e^\varepsilon}\big)$, every
$(\varepsilon, \delta)$-private training yields that many right guesses with a probability of at
most $P[B \ge v] + 2 m \delta \max_i \tfrac1i P[v > B \ge v - i]$ (Steinke, Nasr and Jagielski 2023,
Theorem 5.2). The lower bound is the largest $\varepsilon$ for which this is below 1.25 %, for the
best of four $r$. A canary's score is
$\sum_t \log\big(1 - q + q\, e^{(a_t c_t - c_t^2/2)/\sigma^2}\big)$, with $a_t$ what step $t$
published along the canary's gradient and $c_t$ that gradient's clipped norm.

**The attacker's score** (LiRA): with $\phi = \log \tfrac{p}{1 - p}$ of the right class, $\log
\mathcal N(\phi; \mu_\text{in}, s_\text{in}^2) - \log \mathcal N(\phi; \mu_\text{out},
s_\text{out}^2)$, fitted to shadow models that were trained with the image and without it. At a
false positive rate $\alpha$, no attack finds more than $\min_\varepsilon \big(e^\varepsilon \alpha
+ \delta(\varepsilon)\big)$, with $\delta(\varepsilon)$ from the privacy loss distribution.
"""
)
