"""How numbers are written in the report: with units, three significant digits, and a true minus sign. Pure."""

import math


def number(value: float | None, digits: int = 3) -> str:
    """A number for reading; – where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-3):
        text = f"{value:.{digits - 1}e}"
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    elif abs(value) >= 1000 or float(value).is_integer():
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text


def fixed(value: float | None, digits: int = 2) -> str:
    """A number with as many decimals as its neighbours in a column."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", "−", 1)


def percent(value: float | None) -> str:
    """A share."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f}\u00a0%"


def duration(seconds: float | None) -> str:
    """A length of time in the two largest units that it has."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(count: float, noun: str) -> str:
    """A count with its noun, in the plural where it is not one."""
    return f"{count:,.0f} {noun}" + ("" if count == 1 else "s")
