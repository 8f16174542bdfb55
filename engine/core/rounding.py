"""Numbers that bound something, as text: promised at most is rounded up, shown at least down.

An ε of 2.9951 written as 2.99 promises more than was earned, and a floor of 0.6616 written as
0.662 claims more than was refuted. So every ε, δ, odds and floor that is shown goes through this
module: on the pages, in the command line, in what studies say of themselves and in the tables of
docs/ (tests/core/test_rounding.py, tests/test_documents.py). What is merely measured, such as an
accuracy, is rounded as usual and not here.

Exact: the decimal text is compared with the binary number itself, never with a product of floats.
Nothing but the standard library is imported, as every front end uses this.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_WIDE = Context(prec=1200, Emin=-4000, Emax=4000)  # every double and a hundred times it, exactly
_PLAIN = range(-4, 15)  # exponents that leading digits are written out for; beyond, as 1.2e+20
CHOSEN_DIGITS = 6  # a chosen number with more digits is rounded


def at_most(value: float, digits: int = 3, *, leading: bool = False, times: int = 1) -> str:
    """The least decimal text with so many digits that is not below `times` · value.

    For what is promised at most. digits: after the point, or leading (significant) ones. "∞" for
    what has no bound, "unknown" for no number.
    """
    return _rounded(value, digits, leading, times, ROUND_CEILING)


def at_least(value: float, digits: int = 3, *, leading: bool = False, times: int = 1) -> str:
    """The largest decimal text with so many digits that is not above `times` · value.

    For what is shown at least; otherwise as at_most.
    """
    return _rounded(value, digits, leading, times, ROUND_FLOOR)


def _rounded(value: float, digits: int, leading: bool, times: int, direction: str) -> str:
    value = float(value)
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    exact = _WIDE.multiply(Decimal(value), Decimal(times))
    after = digits - 1 - exact.adjusted() if leading and exact else digits
    found = exact.quantize(Decimal(1).scaleb(-after), rounding=direction, context=_WIDE)
    if not found:
        found = found.copy_abs()  # no -0.000
    return _short(found) if leading else format(found, ",f")


def _short(value: Decimal) -> str:
    """Without zeros at the end: '0.1', '139,152', '1.2e-07'."""
    value = value.normalize(_WIDE)
    if not value or value.adjusted() in _PLAIN:
        return format(value, ",f")
    power = value.adjusted()
    return f"{value.scaleb(-power, _WIDE):f}e{power:+03d}"


def _digits(value: float) -> int:
    """Digits after the point that an ε of this size is told with."""
    return 3 if value < 10 else 1 if value < 1000 else 0


def epsilon(value: float | None) -> str:
    """An ε that was spent or promised, rounded up: '7.986', '15.4', '139,152'.

    'none' where nothing is promised (None).
    """
    if value is None:
        return "none"
    return "∞ (no privacy)" if value == math.inf else at_most(value, _digits(value))


def floor(value: float) -> str:
    """An ε that was shown to be spent, rounded down."""
    return at_least(value, _digits(value))


def of_hundred(odds: float) -> int:
    """Odds in [0.5, 1] → guesses in 100 that are right at most: 0.5601 is 57."""
    hundred = _WIDE.multiply(Decimal(float(odds)), Decimal(100))
    return min(100, int(hundred.to_integral_value(rounding=ROUND_CEILING)))


def chosen(value: float) -> str:
    """A number that somebody has chosen, as it was chosen: '1e-05', '1,925'.

    Rounded up where it has too many digits to be read.
    """
    if not math.isfinite(value):
        return at_most(value)
    exact = Decimal(repr(float(value))).normalize()
    few = len(exact.as_tuple().digits) <= CHOSEN_DIGITS
    return _short(exact) if few else at_most(value, 3, leading=True)


def sufficient(noise: float) -> str:
    """A noise multiplier that is said to suffice for an ε, rounded up.

    Whoever types it in spends no more.
    """
    return at_most(noise, 4, leading=True)


def described(noise: float) -> str:
    """The noise multiplier or σ that ran, to six digits: enough to find the stated ε again."""
    return f"{noise:.6g}"


# --- numbers of a Result by name: for the command line --------------------------------------------


def is_bound(name: str) -> bool:
    """Is this metric an upper bound? (membership_odds, how often an attack was right, is none.)"""
    return name == "ceiling" or name.startswith(("epsilon", "odds", "area_any", "area_mechanism"))


def told(name: str, value: float, digits: int = 6) -> str:
    """A metric as text with so many leading digits, fit for scripts.

    Bounds are rounded to the honest side, all others to the nearest.
    """
    if name == "floor":
        return at_least(value, digits, leading=True).replace(",", "")
    if is_bound(name):
        return at_most(value, digits, leading=True).replace(",", "")
    return f"{value:.{digits}g}"
