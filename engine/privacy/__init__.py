"""Privacy accounting: noise, ε, δ and odds of every mechanism in Veil.

All are pure functions on plain numbers. Nothing here imports torch or opacus, because the web
process imports this package. The submodule `noise`, the sampler, is imported directly by its users.
"""

from engine.privacy.bounds import ROUND_UP, Spent, Unreachable, delta_warning
from engine.privacy.calibration import (
    LEAST_NOISE,
    MOST_NOISE,
    dp_sgd_mu,
    dp_sgd_noise,
    dp_sgd_noise_about,
)
from engine.privacy.composition import (
    Run,
    dp_sgd_epsilon_of_all,
    odds_of_all,
    odds_pair,
    pair_epsilon,
)
from engine.privacy.dp_sgd import BLOCK, COARSE, INTERVAL, POINTS, WIDEST, dp_sgd_epsilon
from engine.privacy.gaussian import (
    gaussian_epsilon,
    gaussian_hockey_stick,
    gaussian_sigma,
    textbook_sigma,
)
from engine.privacy.odds import (
    area_any,
    area_dp_sgd,
    area_gaussian,
    odds_any,
    odds_dp_sgd,
    odds_gaussian,
    tradeoff_any,
    tradeoff_dp_sgd,
    tradeoff_gaussian,
)
from engine.privacy.randomized_response import (
    RandomizedResponse,
    odds_randomized_response,
    randomized_response,
    sample_randomized_response,
)
from engine.privacy.renyi import FRACTIONAL, INTEGER, ORDERS, SMALL_NOISE, rdp_epsilon

__all__ = [
    "ROUND_UP",
    "Spent",
    "Unreachable",
    "delta_warning",
    "RandomizedResponse",
    "odds_randomized_response",
    "randomized_response",
    "sample_randomized_response",
    "gaussian_epsilon",
    "gaussian_hockey_stick",
    "gaussian_sigma",
    "textbook_sigma",
    "FRACTIONAL",
    "INTEGER",
    "ORDERS",
    "SMALL_NOISE",
    "rdp_epsilon",
    "BLOCK",
    "COARSE",
    "INTERVAL",
    "POINTS",
    "WIDEST",
    "dp_sgd_epsilon",
    "Run",
    "dp_sgd_epsilon_of_all",
    "odds_of_all",
    "odds_pair",
    "pair_epsilon",
    "LEAST_NOISE",
    "MOST_NOISE",
    "dp_sgd_mu",
    "dp_sgd_noise",
    "dp_sgd_noise_about",
    "area_any",
    "area_dp_sgd",
    "area_gaussian",
    "odds_any",
    "odds_dp_sgd",
    "odds_gaussian",
    "tradeoff_any",
    "tradeoff_dp_sgd",
    "tradeoff_gaussian",
]
