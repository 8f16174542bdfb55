"""Report 5 (Bu, CS230), Shokri and Shmatikov 2015, and the formulas behind the page."""

REPORT = """
Report 5 (Bu, CS230): a company trains an initial model on half of its images of men, women, dogs
and cats, ships it in an app, and continues training on users' phones by *distributed selective SGD*
(Shokri and Shmatikov 2015). Accuracy of its initial models on validation images: a CNN from scratch
72.1 % (SGD), 74.8 % (RMSProp), 77.7 % (Adam); VGG16 with a new last layer 79.6, 81.4, 83.5 %. With
10 to 20 % of the gradients it reached about the accuracy of training on all images in one place; no
update was worst. Its code was not available. *Initial models* above is its table with ours;
docs/gradient_sharing.md says how to build the folder of images.

Shokri and Shmatikov on MNIST: 99.14 % sharing 10 %, 98.71 % sharing 1 %, 99.17 % with all images in
one place, 93.16 % alone.

What the report does not say: sharing a fraction of the gradients is no protection. The lower half
of this page shows what can be reconstructed from an upload.
"""


FORMULAS = r"""
**A round.** Phone $i$ downloads the model $w$, goes through its own images by SGD,
$w_i \leftarrow w_i - \eta\, g_i^t$, and sums its gradients: $G_i = \sum_t g_i^t$. It uploads
$u_i = S(G_i)$: the $\theta n$ entries of largest magnitude, or random ones, or those above a
threshold. The server updates $w \leftarrow w - \eta\,\eta_s \tfrac1m \sum_i u_i$.

**With a guarantee.** Each $u_i$ is clipped to $\lVert u_i \rVert_2 \le C$. The server adds
$\mathcal N(0, \sigma^2 C^2 I)$ to the sum and divides by the *expected* number of uploads. A
client, blanked with all its images (their number stays the same and is public), changes the
sum by at most $C$: $T$ rounds are $T$ Gaussian mechanisms on a Poisson sample of the clients,
composed exactly (PLD). That holds whatever $S$ is: choosing fewer gradients does not improve
privacy, and noise is added to all gradients that somebody could have sent. Where *each phone* adds
the noise, replacing its images by others changes its upload by at most $2C$: noise multiplier
$\sigma/2$, every round, no sampling.

**The attack** (Geiping et al. 2020) looks for the image $x$ whose gradient has the direction of the
upload: $\min_x\; 1 - \dfrac{\langle \nabla_w \ell(x, y),\, u\rangle}{\lVert \nabla_w \ell(x,
y)\rVert\,\lVert u \rVert} + \lambda\, \mathrm{TV}(x)$, on the entries that were sent. Clipping
alone changes the length of $u$ and not its direction, so it does not affect this attack.
"""
