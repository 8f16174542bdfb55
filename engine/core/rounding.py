"""Format bounds as text: upper bounds are rounded up, lower bounds are rounded down.

Writing an ε of 2.9951 as 2.99 promises more than was proved, and writing a lower bound of 0.6616 as
0.662 claims more than was shown. So every ε, δ, odds and lower bound that is displayed goes through
this module: on the pages, in the command line, in the texts of studies and in the tables of docs/
(tests/core/test_rounding.py, tests/test_documents.py). Measured values such as an accuracy are
rounded as usual, elsewhere.

The rounding is exact: the decimal text is compared with the binary number itself, never with a
product of floats. Only the standard library is imported, because every front end uses this module.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_WIDE = Context(prec=1200, Emin=-4000, Emax=4000)  # holds every double, times a hundred, exactly
_PLAIN = range(-4, 15)  # exponents written out in full; others as 1.2e+20
CHOSEN_DIGITS = 6  # a chosen number with more digits is rounded


def at_most(value: float, digits: int = 3, *, leading: bool = False, times: int = 1) -> str:
    """Round an upper bound up: the least decimal text that is not below `times` · value.

    digits: after the decimal point, or significant digits if `leading`. Infinity gives "∞" and NaN
    gives "unknown".
    """
    return _rounded(value, digits, leading, times, ROUND_CEILING)


def at_least(value: float, digits: int = 3, *, leading: bool = False, times: int = 1) -> str:
    """Round a lower bound down: the largest decimal text that is not above `times` · value.

    Otherwise as at_most.
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
    """Format without trailing zeros: '0.1', '139,152', '1.2e-07'."""
    value = value.normalize(_WIDE)
    if not value or value.adjusted() in _PLAIN:
        return format(value, ",f")
    power = value.adjusted()
    return f"{value.scaleb(-power, _WIDE):f}e{power:+03d}"


def _digits(value: float) -> int:
    """Return the number of digits after the point for an ε of this size."""
    return 3 if value < 10 else 1 if value < 1000 else 0


def epsilon(value: float | None) -> str:
    """Format an ε that was spent or promised, rounded up: '7.986', '15.4', '139,152'.

    'none' where nothing is promised (None).
    """
    if value is None:
        return "none"
    return "∞ (no privacy)" if value == math.inf else at_most(value, _digits(value))


def lower_bound(value: float) -> str:
    """Format a lower bound on the ε that was spent, rounded down."""
    return at_least(value, _digits(value))


def of_hundred(odds: float) -> int:
    """Convert odds in [0.5, 1] to the most correct guesses in 100, rounded up: 0.5601 → 57."""
    hundred = _WIDE.multiply(Decimal(float(odds)), Decimal(100))
    return min(100, int(hundred.to_integral_value(rounding=ROUND_CEILING)))


def chosen(value: float) -> str:
    """Format a number that a user chose, as it was chosen: '1e-05', '1,925'.

    Rounded up if it has more than CHOSEN_DIGITS digits.
    """
    if not math.isfinite(value):
        return at_most(value)
    exact = Decimal(repr(float(value))).normalize()
    few = len(exact.as_tuple().digits) <= CHOSEN_DIGITS
    return _short(exact) if few else at_most(value, 3, leading=True)


def sufficient(noise: float) -> str:
    """Format a noise multiplier that suffices for an ε, rounded up.

    So typing in the displayed value never spends more than that ε.
    """
    return at_most(noise, 4, leading=True)


def described(noise: float) -> str:
    """Format the noise multiplier or σ that was used, to six digits: enough to recompute its ε."""
    return f"{noise:.6g}"


# --- numbers of a Result by name: for the command line --------------------------------------------


def is_bound(name: str) -> bool:
    """Whether this metric is an upper bound; membership_odds, an attack's success rate, is not."""
    return name == "upper_bound" or name.startswith(
        ("epsilon", "odds", "area_any", "area_mechanism")
    )


def formatted(name: str, value: float, digits: int = 6) -> str:
    """Format a metric with `digits` significant digits, in a form that scripts can parse.

    Bounds are rounded to the safe side, all others to the nearest value.
    """
    if name == "lower_bound":
        return at_least(value, digits, leading=True).replace(",", "")
    if is_bound(name):
        return at_most(value, digits, leading=True).replace(",", "")
    return f"{value:.{digits}g}"
