"""The machine that runs tapes: instructions forward for a value, in reverse for its gradient, compiled by Numba once.

Two functions run the instructions of any model, so that no model is compiled (`tape.py` says what a tape is). Each
elementary instruction has a value and derivatives; the likelihood of runs, where the arithmetic of a fit is, is one
instruction. It computes what `bayes_l2l.structures.run_likelihood` defines, against whose automatic derivative it is
tested. With the notation there, a run of log loss y has the residual r = y - log(E + exp(a + gamma p)); ``part`` is
the reducible part of its loss and h = sd gamma part what one standard deviation of its size's effect moves it by. The
effects are integrated out by sums over the runs of a size (Sherman and Morrison, 1950).

All that is compiled stands in this file: Numba keeps compiled functions on disk, and looks at no other file than the
one of the function to see whether they are up to date.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_exact: Any = numba.njit(cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
# Sums may be reordered, so that they become vector instructions.
_fast: Any = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract"}}
_jit: Any = numba.njit(**_fast, no_cpython_wrapper=True, no_cfunc_wrapper=True)
#: Instructions on every element, by the name of PyTensor's scalar operation; then those of other shapes.
ELEMENTWISE: Final = (
    "Add", "Sub", "Mul", "TrueDiv", "Pow", "Neg", "Sqr", "Sqrt", "Exp", "Log", "Log1p", "Expm1", "Sigmoid",
    "Softplus", "Log1mexp", "Abs", "Maximum", "Minimum", "GammaLn", "Switch", "GT", "LT", "GE", "LE", "EQ",
    "Identity",
)  # fmt: skip
CODES: Final = {
    name: code for code, name in enumerate((*ELEMENTWISE, "Sum", "Gather", "Normal", "Offset", "Runs", "Dot"))
}
(
    ADD, SUB, MUL, DIV, POW, NEG, SQR, SQRT, EXP, LOG, LOG1P, EXPM1, SIGMOID, SOFTPLUS,
    LOG1MEXP, ABS, MAX, MIN, GAMMALN, SWITCH, GT, LT, GE, LE, EQ, IDENTITY, SUM, GATHER, NORMAL, OFFSET, RUNS,
    DOT,
) = range(len(CODES))  # fmt: skip

#: Numbers of the header that the log density is called with.
HEADER: Final = 17
_HALF_LOG_2PI: Final = 0.5 * math.log(2 * math.pi)
#: Numbers of an instruction: code, place of the result and its steps along rows and columns, how many of both, then
#: of each of three operands its place, its steps, and whether it depends on the parameters. A product of matrices has
#: the length of its sums in the place of the result's step along rows.
WIDTH: Final = 18
#: Operands of the likelihood of runs in their order: those that may depend on the parameters, those that are data,
#: and those that are places.
RUN_PARAMETERS: Final = ("progress", "log_scale", "E", "gamma", "residual_scale", "effect_scale")
RUN_DATA: Final = ("log_loss", "noise", "weight")
RUN_PLACES: Final = ("point", "cell")
_LOG_2PI: Final = math.log(2 * math.pi)

# Of exp and log, as in the Cephes library.
_LOG2_E: Final = 1.4426950408889634
_LN2_HIGH: Final = 6.93145751953125e-1
_LN2_LOW: Final = 1.42860682030941723212e-6
#: Adding it rounds to a whole number, which is then in the last bits.
_MAGIC: Final = 6755399441055744.0
_MAGIC_BITS: Final = 0x4338000000000000
_SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD
_ONE_BITS: Final = 0x3FF0000000000000
_LARGEST: Final = 709.0
_INFINITY: Final = float("inf")
_NAN: Final = float("nan")


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing_context: Any, x: Any) -> Any:
    """Bits of a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _number(typing_context: Any, bits: Any) -> Any:
    """Number of these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@_exact
def exp(x):  # type: ignore[no-untyped-def]
    """Exponential, to the last digit but one; held at e^709 above and e^-708 below, and NaN of NaN.

    Without a branch, so that loops become vector instructions: the C library's is called for one number at a time.
    The rational approximations are those of Cephes (S. L. Moshier, netlib.org/cephes, exp.c and log.c). Nothing here
    may be reordered: the reduction of an argument lives by the order of its roundings.
    """
    x = min(max(x, -708.0), _LARGEST) if x == x else x
    rounded = x * _LOG2_E + _MAGIC
    whole = rounded - _MAGIC
    x = x - whole * _LN2_HIGH
    x = x - whole * _LN2_LOW
    xx = x * x
    p = x * ((1.26177193074810590878e-4 * xx + 3.02994407707441961300e-2) * xx + 9.99999999999999999910e-1)
    q = ((3.00198505138664455042e-6 * xx + 2.52448340349684104192e-3) * xx + 2.27265548208155028766e-1) * xx
    fraction = 1.0 + 2.0 * (p / (q + 2.0 - p))
    return fraction * _number(_ONE_BITS + ((_bits(rounded) - _MAGIC_BITS) << 52))


@_exact
def log(x):  # type: ignore[no-untyped-def]
    """Logarithm; minus infinity of 0, and NaN below."""
    bits = _bits(x)
    # x = m 2^e with m between sqrt(1/2) and sqrt(2).
    e = (bits - _SQRT_HALF_BITS) >> 52
    m = _number(bits - (e << 52)) - 1.0
    # The whole number as a number, without a conversion that vectors may lack.
    e_number = _number(_MAGIC_BITS + e) - _MAGIC
    p = 1.01875663804580931796e-4
    p = p * m + 4.97494994976747001425e-1
    p = p * m + 4.70579119878881725854e0
    p = p * m + 1.44989225341610930846e1
    p = p * m + 1.79368678507819816313e1
    p = p * m + 7.70838733755885391666e0
    q = m + 1.12873587189167450590e1
    q = q * m + 4.52279145837532221105e1
    q = q * m + 8.29875266912776603211e1
    q = q * m + 7.11544750618563894466e1
    q = q * m + 2.31251620126765340583e1
    mm = m * m
    y = m * (mm * p / q) - e_number * 2.121944400546905827679e-4 - 0.5 * mm
    found = m + y + e_number * 0.693359375
    if x > 0.0:
        return found
    return -_INFINITY if x == 0.0 else _NAN


def run_scratch(n_runs: int, n_points: int) -> int:
    """How many numbers the likelihood of runs keeps from its way forward for its way back."""
    return 5 * n_runs + 3 * n_points


@_jit
def _end(cell, start):  # type: ignore[no-untyped-def]
    """Where the runs of a cell end that begin at a place: they lie cell by cell, in the order of the cells."""
    here, step, end = cell[start], 1, start
    while end + step < cell.size and cell[end + step] == here:
        end += step
        step *= 2
    while step > 0:
        if end + step < cell.size and cell[end + step] == here:
            end += step
        step //= 2
    return end + 1


@_jit
def _residuals(log_scale, gamma, E, progress, log_loss, over, part, residual):  # type: ignore[no-untyped-def]
    """One over the losses of a law, the parts of them that are reducible, and residuals of log loss."""
    for k in range(progress.size):
        reducible = exp(log_scale + gamma * progress[k])
        loss = E + reducible
        over[k] = 1 / loss
        part[k] = reducible * over[k]
        residual[k] = log_loss[k] - log(loss)


@_jit
def _any(values):  # type: ignore[no-untyped-def]
    """Whether any number is not 0."""
    largest = 0.0
    for j in range(values.size):
        largest = max(largest, abs(values[j]))
    return largest > 0


@_jit
def _terms(variance, noise, residual, precision, term):  # type: ignore[no-untyped-def]
    """Precisions, and squares of residuals by them with the logarithms of variances."""
    if _any(noise):
        for k in range(noise.size):
            both = variance + noise[k] * noise[k]
            precision[k] = 1 / both
            term[k] = residual[k] * residual[k] / both + log(both) + _LOG_2PI
    else:
        own, log_own = 1 / variance, log(variance) + _LOG_2PI
        for k in range(noise.size):
            precision[k] = own
            term[k] = residual[k] * residual[k] * own + log_own


@_jit
def _weighted(point, weight, term):  # type: ignore[no-untyped-def]
    """Sum of terms by the weights of their points."""
    total = 0.0
    for k in range(point.size):
        total += weight[point[k]] * term[k]
    return total


@_jit
def _add_up_shared(point, effect, gamma, part, residual, precision, gain, cross):  # type: ignore[no-untyped-def]
    """Sums by point that the effect of a size needs."""
    for k in range(point.size):
        j = point[k]
        h = effect[j] * gamma * part[k]
        gain[j] += h * h * precision[k]
        cross[j] += h * residual[k] * precision[k]


@_jit
def _runs(program, instruction, known, indices, work):  # type: ignore[no-untyped-def]
    """Run the instruction forward."""
    at = program[instruction + 6]
    n, n_points = indices[at], indices[at + 1]
    progress = work[indices[at + 3] : indices[at + 3] + n]
    a, da = indices[at + 6], indices[at + 7]
    e, de = indices[at + 9], indices[at + 10]
    g, dg = indices[at + 12], indices[at + 13]
    s, ds = indices[at + 15], indices[at + 16]
    effect = work[indices[at + 18] : indices[at + 18] + n_points]
    log_loss, noise = known[indices[at + 21] :][:n], known[indices[at + 22] :][:n]
    weight = known[indices[at + 23] :][:n_points]
    point, cell = indices[indices[at + 24] :][:n], indices[indices[at + 25] :][:n]
    kept = program[instruction + 10]
    over, part, residual = work[kept:][:n], work[kept + n :][:n], work[kept + 2 * n :][:n]
    precision, term = work[kept + 3 * n :][:n], work[kept + 4 * n :][:n]
    kept += 5 * n
    gain, cross = work[kept:][:n_points], work[kept + n_points :][:n_points]
    for j in range(n_points):
        gain[j], cross[j] = 1.0, 0.0
    shared, value, start = _any(effect), 0.0, 0
    while start < n:
        end, i = _end(cell, start), cell[start]
        gamma, here = work[g + i * dg], slice(start, end)
        _residuals(
            work[a + i * da], gamma, work[e + i * de], progress[here], log_loss[here],
            over[here], part[here], residual[here],
        )  # fmt: skip
        _terms(work[s + i * ds] ** 2, noise[here], residual[here], precision[here], term[here])
        value += _weighted(point[here], weight, term[here])
        if shared:
            _add_up_shared(point[here], effect, gamma, part[here], residual[here], precision[here], gain, cross)
        start = end
    if shared:
        for j in range(n_points):
            value += weight[j] * (log(gain[j]) - cross[j] * cross[j] / gain[j])
    work[program[instruction + 1]] = -0.5 * value


@_jit
def _slopes(gamma, progress, point, effect, counts, of_cross, of_gain, over, part, residual, precision, of_log):  # type: ignore[no-untyped-def]
    """Derivatives by log_scale + gamma progress of every run, and by the parameters of a cell."""
    of_E, of_variance, of_gamma, of_log_scale = 0.0, 0.0, 0.0, 0.0
    for k in range(point.size):
        j, r, w, q = point[k], residual[k], precision[k], part[k]
        h = effect[j] * gamma * q
        of_r = w * (of_cross[j] * h - counts[j] * r)
        of_h = w * (of_cross[j] * r + 2 * of_gain[j] * h)
        of_w = r * (of_cross[j] * h - 0.5 * counts[j] * r) + of_gain[j] * h * h
        of_part = of_h * effect[j] * gamma
        along = q * (of_part * (1 - q) - of_r)
        of_log[k] = along
        of_log_scale += along
        of_gamma += along * progress[k] + of_h * effect[j] * q
        of_E -= (of_part * q + of_r) * over[k]
        of_variance -= w * (0.5 * counts[j] + w * of_w)
    return of_log_scale, of_E, of_gamma, of_variance


@_jit
def _slopes_alone(progress, point, counts, over, part, residual, precision, of_log):  # type: ignore[no-untyped-def]
    """The same where runs share no effect."""
    of_E, of_variance, of_gamma, of_log_scale = 0.0, 0.0, 0.0, 0.0
    for k in range(point.size):
        weight, r, w = counts[point[k]], residual[k], precision[k]
        of_r = -w * weight * r
        along = -part[k] * of_r
        of_log[k] = along
        of_log_scale += along
        of_gamma += along * progress[k]
        of_E -= of_r * over[k]
        of_variance += 0.5 * w * weight * (w * r * r - 1)
    return of_log_scale, of_E, of_gamma, of_variance


@_jit
def _slopes_of_effect(gamma, point, effect, of_cross, of_gain, part, residual, precision, of_effect):  # type: ignore[no-untyped-def]
    """Add the derivatives by the scales of the effects."""
    for k in range(point.size):
        j, along = point[k], gamma * part[k]
        of_effect[j] += along * precision[k] * (of_cross[j] * residual[k] + 2 * of_gain[j] * effect[j] * along)


@_jit
def _runs_in_reverse(program, instruction, known, indices, work, slope):  # type: ignore[no-untyped-def]
    """Run the instruction in reverse."""
    at = program[instruction + 6]
    n, n_points = indices[at], indices[at + 1]
    progress = work[indices[at + 3] : indices[at + 3] + n]
    of_progress, p_active = slope[indices[at + 3] :][:n], indices[at + 5]
    a, da, a_active = indices[at + 6], indices[at + 7], indices[at + 8]
    e, de, e_active = indices[at + 9], indices[at + 10], indices[at + 11]
    g, dg, g_active = indices[at + 12], indices[at + 13], indices[at + 14]
    s, ds, s_active = indices[at + 15], indices[at + 16], indices[at + 17]
    effect = work[indices[at + 18] : indices[at + 18] + n_points]
    of_effect, f_active = slope[indices[at + 18] :][:n_points], indices[at + 20]
    weight = known[indices[at + 23] :][:n_points]
    point, cell = indices[indices[at + 24] :][:n], indices[indices[at + 25] :][:n]
    kept = program[instruction + 10]
    over, part, residual = work[kept:][:n], work[kept + n :][:n], work[kept + 2 * n :][:n]
    precision, of_log = work[kept + 3 * n :][:n], work[kept + 4 * n :][:n]
    kept += 5 * n
    of_gain, of_cross = work[kept:][:n_points], work[kept + n_points :][:n_points]
    counts = work[kept + 2 * n_points :][:n_points]
    out = slope[program[instruction + 1]]
    # The derivatives by the sums of a point take the places of the sums.
    for j in range(n_points):
        mean = of_cross[j] / of_gain[j]
        counts[j] = out * weight[j]
        of_gain[j] = -0.5 * counts[j] * (mean * mean + 1 / of_gain[j])
        of_cross[j] = counts[j] * mean
    shared, start = _any(effect), 0
    while start < n:
        end, i = _end(cell, start), cell[start]
        gamma, here = work[g + i * dg], slice(start, end)
        if shared:
            of_log_scale, of_E, of_gamma, of_variance = _slopes(
                gamma, progress[here], point[here], effect, counts, of_cross, of_gain,
                over[here], part[here], residual[here], precision[here], of_log[here],
            )  # fmt: skip
        else:
            of_log_scale, of_E, of_gamma, of_variance = _slopes_alone(
                progress[here],
                point[here],
                counts,
                over[here],
                part[here],
                residual[here],
                precision[here],
                of_log[here],
            )
        if f_active:
            _slopes_of_effect(
                gamma, point[here], effect, of_cross, of_gain,
                part[here], residual[here], precision[here], of_effect,
            )  # fmt: skip
        if p_active:
            for k in range(start, end):
                of_progress[k] += gamma * of_log[k]
        if a_active:
            slope[a + i * da] += of_log_scale
        if e_active:
            slope[e + i * de] += of_E
        if g_active:
            slope[g + i * dg] += of_gamma
        if s_active:
            slope[s + i * ds] += 2 * work[s + i * ds] * of_variance
        start = end


@_exact
def log1p(x):  # type: ignore[no-untyped-def]
    """Logarithm of 1 + x, also near 0 (D. Goldberg, 1991, ACM Computing Surveys 23, theorem 4)."""
    y = 1.0 + x
    return x if y == 1.0 else log(y) * (x / (y - 1.0))


@_exact
def expm1(x):  # type: ignore[no-untyped-def]
    """Exponential less 1, also where x is next to nothing (W. Kahan's way)."""
    y = exp(x)
    if y == 1.0:
        return x
    return -1.0 if x < -40.0 else (y - 1.0) * (x / log(y))


@_exact
def _digamma(x):  # type: ignore[no-untyped-def]
    """Derivative of log Gamma at x > 0, by its recurrence and asymptotic series (Abramowitz and Stegun, 6.3.18)."""
    below = 0.0
    while x < 10.0:
        below += 1.0 / x
        x += 1.0
    y = 1.0 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * 691 / 32760)))))
    return math.log(x) - 0.5 / x - series - below


@_exact
def _value(code, x, y, z):  # type: ignore[no-untyped-def]
    """Value of an elementwise instruction."""
    if code == ADD:
        return x + y
    if code == MUL:
        return x * y
    if code == SUB:
        return x - y
    if code == DIV:
        return x / y
    if code == SQR:
        return x * x
    if code == EXP:
        return exp(x)
    if code == LOG:
        return log(x)
    if code == POW:
        return x**y
    if code == NEG:
        return -x
    if code == SQRT:
        return math.sqrt(x) if x >= 0 else np.nan
    if code == LOG1P:
        return log1p(x)
    if code == EXPM1:
        return expm1(x)
    if code == SIGMOID:
        return 1 / (1 + exp(-x))
    if code == SOFTPLUS:
        return max(x, 0.0) + log1p(exp(-abs(x)))
    if code == LOG1MEXP:
        return log(-expm1(x)) if x > -0.6931471805599453 else log1p(-exp(x))
    if code == ABS:
        return abs(x)
    if code == MAX:
        return max(x, y)
    if code == MIN:
        return min(x, y)
    if code == GAMMALN:
        return math.lgamma(x)
    if code == SWITCH:
        return y if x != 0 else z
    if code == GT:
        return 1.0 if x > y else 0.0
    if code == LT:
        return 1.0 if x < y else 0.0
    if code == GE:
        return 1.0 if x >= y else 0.0
    if code == LE:
        return 1.0 if x <= y else 0.0
    if code == EQ:
        return 1.0 if x == y else 0.0
    return x


@_exact
def _derivative(code, of, x, y, z, value):  # type: ignore[no-untyped-def]
    """Derivative of an elementwise instruction by its first, second or third operand."""
    if code == ADD:
        return 1.0
    if code == MUL:
        return y if of == 0 else x
    if code == SUB:
        return 1.0 if of == 0 else -1.0
    if code == DIV:
        return 1 / y if of == 0 else -value / y
    if code == SQR:
        return 2 * x
    if code == EXP:
        return value
    if code == LOG:
        return 1 / x
    if code == POW:
        if of == 0:
            return y * x ** (y - 1)
        return value * log(x) if x > 0 else 0.0
    if code == NEG:
        return -1.0
    if code == SQRT:
        return 0.5 / value
    if code == LOG1P:
        return 1 / (1 + x)
    if code == EXPM1:
        return value + 1
    if code == SIGMOID:
        return value * (1 - value)
    if code == SOFTPLUS:
        return 1 / (1 + exp(-x))
    if code == LOG1MEXP:
        return -1 / expm1(-x)
    if code == ABS:
        return 1.0 if x > 0 else (-1.0 if x < 0 else 0.0)
    if code == MAX:
        return 1.0 if (x >= y) == (of == 0) else 0.0
    if code == MIN:
        return 1.0 if (x <= y) == (of == 0) else 0.0
    if code == GAMMALN:
        return _digamma(x)
    if code == SWITCH:
        return 0.0 if of == 0 else (1.0 if (x != 0) == (of == 1) else 0.0)
    return 1.0 if code == IDENTITY else 0.0


@_jit
def _add(work, o, n, a, a_step, b, b_step):  # type: ignore[no-untyped-def]
    """Sum of two rows."""
    if a_step == 1 and b_step == 1:
        for j in range(n):
            work[o + j] = work[a + j] + work[b + j]
    elif a_step == 1 and b_step == 0:
        y = work[b]
        for j in range(n):
            work[o + j] = work[a + j] + y
    elif a_step == 0 and b_step == 1:
        x = work[a]
        for j in range(n):
            work[o + j] = x + work[b + j]
    else:
        for j in range(n):
            work[o + j] = work[a + j * a_step] + work[b + j * b_step]


@_jit
def _subtract(work, o, n, a, a_step, b, b_step):  # type: ignore[no-untyped-def]
    """Difference of two rows."""
    if a_step == 1 and b_step == 1:
        for j in range(n):
            work[o + j] = work[a + j] - work[b + j]
    elif a_step == 1 and b_step == 0:
        y = work[b]
        for j in range(n):
            work[o + j] = work[a + j] - y
    elif a_step == 0 and b_step == 1:
        x = work[a]
        for j in range(n):
            work[o + j] = x - work[b + j]
    else:
        for j in range(n):
            work[o + j] = work[a + j * a_step] - work[b + j * b_step]


@_jit
def _multiply(work, o, n, a, a_step, b, b_step):  # type: ignore[no-untyped-def]
    """Product of two rows."""
    if a_step == 1 and b_step == 1:
        for j in range(n):
            work[o + j] = work[a + j] * work[b + j]
    elif a_step == 1 and b_step == 0:
        y = work[b]
        for j in range(n):
            work[o + j] = work[a + j] * y
    elif a_step == 0 and b_step == 1:
        x = work[a]
        for j in range(n):
            work[o + j] = x * work[b + j]
    else:
        for j in range(n):
            work[o + j] = work[a + j * a_step] * work[b + j * b_step]


@_jit
def _divide(work, o, n, a, a_step, b, b_step):  # type: ignore[no-untyped-def]
    """Quotient of two rows."""
    if a_step == 1 and b_step == 1:
        for j in range(n):
            work[o + j] = work[a + j] / work[b + j]
    elif a_step == 1 and b_step == 0:
        y = work[b]
        for j in range(n):
            work[o + j] = work[a + j] / y
    elif a_step == 0 and b_step == 1:
        x = work[a]
        for j in range(n):
            work[o + j] = x / work[b + j]
    else:
        for j in range(n):
            work[o + j] = work[a + j * a_step] / work[b + j * b_step]


@_jit
def _square(work, o, n, a, step):  # type: ignore[no-untyped-def]
    """Squares of a row."""
    if step == 1:
        for j in range(n):
            work[o + j] = work[a + j] * work[a + j]
    else:
        for j in range(n):
            work[o + j] = work[a + j * step] * work[a + j * step]


@_jit
def _exponentiate(work, o, n, a, step):  # type: ignore[no-untyped-def]
    """Exponentials of a row."""
    if step == 1:
        for j in range(n):
            work[o + j] = exp(work[a + j])
    else:
        for j in range(n):
            work[o + j] = exp(work[a + j * step])


@_jit
def _take_log(work, o, n, a, step):  # type: ignore[no-untyped-def]
    """Logarithms of a row."""
    if step == 1:
        for j in range(n):
            work[o + j] = log(work[a + j])
    else:
        for j in range(n):
            work[o + j] = log(work[a + j * step])


@_jit
def _root(work, o, n, a, step):  # type: ignore[no-untyped-def]
    """Square roots of a row."""
    if step == 1:
        for j in range(n):
            work[o + j] = math.sqrt(work[a + j])
    else:
        for j in range(n):
            work[o + j] = math.sqrt(work[a + j * step])


@_jit
def _soften(work, o, n, a, step):  # type: ignore[no-untyped-def]
    """Softplus of a row."""
    if step == 1:
        for j in range(n):
            work[o + j] = max(work[a + j], 0.0) + log1p(exp(-abs(work[a + j])))
    else:
        for j in range(n):
            work[o + j] = max(work[a + j * step], 0.0) + log1p(exp(-abs(work[a + j * step])))


@_jit
def _pass_on(slope, o, n, to, step, factor):  # type: ignore[no-untyped-def]
    """Add a multiple of the derivatives by a row to those by an operand."""
    if step == 1:
        for j in range(n):
            slope[to + j] += factor * slope[o + j]
    else:
        total = 0.0
        if step == 0:
            for j in range(n):
                total += slope[o + j]
            slope[to] += factor * total
        else:
            for j in range(n):
                slope[to + j * step] += factor * slope[o + j]


@_jit
def _pass_on_times(slope, o, n, to, step, factor, work, q, q_step):  # type: ignore[no-untyped-def]
    """The same times a row of numbers."""
    if step == 1 and q_step == 1:
        for j in range(n):
            slope[to + j] += factor * slope[o + j] * work[q + j]
    elif step == 0:
        total = 0.0
        if q_step == 1:
            for j in range(n):
                total += slope[o + j] * work[q + j]
        else:
            for j in range(n):
                total += slope[o + j] * work[q + j * q_step]
        slope[to] += factor * total
    elif q_step == 0:
        _pass_on(slope, o, n, to, step, factor * work[q])
    else:
        for j in range(n):
            slope[to + j * step] += factor * slope[o + j] * work[q + j * q_step]


@_jit
def _pass_on_over(slope, o, n, to, step, factor, work, q, q_step):  # type: ignore[no-untyped-def]
    """The same over a row of numbers."""
    if q_step == 0:
        _pass_on(slope, o, n, to, step, factor / work[q])
    elif step == 1 and q_step == 1:
        for j in range(n):
            slope[to + j] += factor * slope[o + j] / work[q + j]
    else:
        for j in range(n):
            slope[to + j * step] += factor * slope[o + j] / work[q + j * q_step]


@_jit
def _pass_on_ratio(slope, o, n, to, step, work):  # type: ignore[no-untyped-def]
    """Add to the derivatives by what a row was divided by."""
    if step == 1:
        for j in range(n):
            slope[to + j] -= slope[o + j] * work[o + j] / work[to + j]
    elif step == 0:
        total = 0.0
        for j in range(n):
            total += slope[o + j] * work[o + j]
        slope[to] -= total / work[to]
    else:
        for j in range(n):
            slope[to + j * step] -= slope[o + j] * work[o + j] / work[to + j * step]


@_jit
def _map(code, work, o, n, a, a_step, b, b_step, c, c_step):  # type: ignore[no-untyped-def]
    """Any elementwise instruction along a row."""
    for j in range(n):
        work[o + j] = _value(code, work[a + j * a_step], work[b + j * b_step], work[c + j * c_step])


@_jit
def _pull(code, of, slope, o, n, to, step, work, a, a_step, b, b_step, c, c_step):  # type: ignore[no-untyped-def]
    """Add to the derivatives by one operand of any elementwise instruction along a row."""
    for j in range(n):
        x, y, z = work[a + j * a_step], work[b + j * b_step], work[c + j * c_step]
        slope[to + j * step] += slope[o + j] * _derivative(code, of, x, y, z, work[o + j])


@_jit
def _elementwise(program, at, work):  # type: ignore[no-untyped-def]
    """Run an elementwise instruction forward, row by row."""
    # Places are numbers without a sign, of which Numba need not ask whether they count from the end.
    code, o, rows, n = program[at], np.uintp(program[at + 1]), program[at + 4], np.uintp(program[at + 5])
    a, a_row, a_col = np.uintp(program[at + 6]), np.uintp(program[at + 7]), np.uintp(program[at + 8])
    b, b_row, b_col = np.uintp(program[at + 10]), np.uintp(program[at + 11]), np.uintp(program[at + 12])
    c, c_row, c_col = np.uintp(program[at + 14]), np.uintp(program[at + 15]), np.uintp(program[at + 16])
    for _ in range(rows):
        if code == ADD:
            _add(work, o, n, a, a_col, b, b_col)
        elif code == MUL:
            _multiply(work, o, n, a, a_col, b, b_col)
        elif code == SUB:
            _subtract(work, o, n, a, a_col, b, b_col)
        elif code == DIV:
            _divide(work, o, n, a, a_col, b, b_col)
        elif code == SQR:
            _square(work, o, n, a, a_col)
        elif code == EXP:
            _exponentiate(work, o, n, a, a_col)
        elif code == LOG:
            _take_log(work, o, n, a, a_col)
        elif code == SQRT:
            _root(work, o, n, a, a_col)
        elif code == SOFTPLUS:
            _soften(work, o, n, a, a_col)
        else:
            _map(code, work, o, n, a, a_col, b, b_col, c, c_col)
        o += n
        a += a_row
        b += b_row
        c += c_row


@_jit
def _elementwise_in_reverse(program, at, work, slope):  # type: ignore[no-untyped-def]
    """Run an elementwise instruction in reverse, row by row."""
    code, o, rows, n = program[at], np.uintp(program[at + 1]), program[at + 4], np.uintp(program[at + 5])
    a, a_row, a_col = np.uintp(program[at + 6]), np.uintp(program[at + 7]), np.uintp(program[at + 8])
    b, b_row, b_col = np.uintp(program[at + 10]), np.uintp(program[at + 11]), np.uintp(program[at + 12])
    c, c_row, c_col = np.uintp(program[at + 14]), np.uintp(program[at + 15]), np.uintp(program[at + 16])
    a_active, b_active, c_active = program[at + 9], program[at + 13], program[at + 17]
    one = np.uintp(1)
    for _ in range(rows):
        if code in (ADD, SUB):
            if a_active:
                _pass_on(slope, o, n, a, a_col, 1.0)
            if b_active:
                _pass_on(slope, o, n, b, b_col, 1.0 if code == ADD else -1.0)
        elif code == MUL:
            if a_active:
                _pass_on_times(slope, o, n, a, a_col, 1.0, work, b, b_col)
            if b_active:
                _pass_on_times(slope, o, n, b, b_col, 1.0, work, a, a_col)
        elif code == SQR:
            _pass_on_times(slope, o, n, a, a_col, 2.0, work, a, a_col)
        elif code == EXP:
            _pass_on_times(slope, o, n, a, a_col, 1.0, work, o, one)
        elif code == LOG:
            _pass_on_over(slope, o, n, a, a_col, 1.0, work, a, a_col)
        elif code == SQRT:
            _pass_on_over(slope, o, n, a, a_col, 0.5, work, o, one)
        elif code == DIV:
            if a_active:
                _pass_on_over(slope, o, n, a, a_col, 1.0, work, b, b_col)
            if b_active:
                _pass_on_ratio(slope, o, n, b, b_col, work)
        else:
            if a_active:
                _pull(code, 0, slope, o, n, a, a_col, work, a, a_col, b, b_col, c, c_col)
            if b_active:
                _pull(code, 1, slope, o, n, b, b_col, work, a, a_col, b, b_col, c, c_col)
            if c_active:
                _pull(code, 2, slope, o, n, c, c_col, work, a, a_col, b, b_col, c, c_col)
        o += n
        a += a_row
        b += b_row
        c += c_row


@_jit
def _normal(program, at, work, centred):  # type: ignore[no-untyped-def]
    """Add the log density of normal numbers (first operand) of a mean and a standard deviation, or of offsets."""
    rows, cols = program[at + 4], program[at + 5]
    a, m, s = program[at + 6], program[at + 10], program[at + 14]
    total = 0.0
    for i in range(rows):
        for j in range(cols):
            scale = work[s + i * program[at + 15] + j * program[at + 16]]
            z = work[a + i * program[at + 7] + j * program[at + 8]]
            z = (z - work[m + i * program[at + 11] + j * program[at + 12]]) / scale
            total -= 0.5 * z * z + centred * log(scale) + _HALF_LOG_2PI
    work[program[at + 1]] += total


@_jit
def _normal_in_reverse(program, at, work, slope, centred):  # type: ignore[no-untyped-def]
    rows, cols, g = program[at + 4], program[at + 5], slope[program[at + 1]]
    a, m, s = program[at + 6], program[at + 10], program[at + 14]
    for i in range(rows):
        for j in range(cols):
            x = a + i * program[at + 7] + j * program[at + 8]
            mean = m + i * program[at + 11] + j * program[at + 12]
            scale = s + i * program[at + 15] + j * program[at + 16]
            precision = 1 / work[scale]
            z = (work[x] - work[mean]) * precision
            slope[x] -= g * z * precision
            if program[at + 13]:
                slope[mean] += g * z * precision
            if program[at + 17]:
                slope[scale] += g * (z * z - centred) * precision


@_jit
def _product(program, at, work):  # type: ignore[no-untyped-def]
    """Product of two matrices; rows of the second lie in their order."""
    o, rows, inner, n = np.uintp(program[at + 1]), program[at + 4], program[at + 2], np.uintp(program[at + 5])
    for i in range(rows):
        for k in range(inner):
            factor = work[program[at + 6] + i * program[at + 7] + k * program[at + 8]]
            b = np.uintp(program[at + 10] + k * program[at + 11])
            for j in range(n):
                work[o + j] += factor * work[b + j]
        o += n


@_jit
def _product_in_reverse(program, at, work, slope):  # type: ignore[no-untyped-def]
    o, rows, inner, n = np.uintp(program[at + 1]), program[at + 4], program[at + 2], np.uintp(program[at + 5])
    for i in range(rows):
        for k in range(inner):
            a = program[at + 6] + i * program[at + 7] + k * program[at + 8]
            b = np.uintp(program[at + 10] + k * program[at + 11])
            if program[at + 9]:
                total = 0.0
                for j in range(n):
                    total += slope[o + j] * work[b + j]
                slope[a] += total
            if program[at + 13]:
                factor = work[a]
                for j in range(n):
                    slope[b + j] += factor * slope[o + j]
        o += n


@_jit
def _forward(program, known, indices, work):  # type: ignore[no-untyped-def]
    """Run the instructions of a program in order.

    Parameters
    ----------
    program : ndarray of int, shape (instruction * WIDTH,)
        Instructions, one after the other.
    known : ndarray, shape (number,)
        Data of the likelihood of runs, after the constants that `work` begins with.
    indices : ndarray of int
        Places that are gathered, and the operands of the likelihood of runs.
    work : ndarray, shape (number,)
        Constants, parameters, and every result.
    """
    for at in range(0, program.size, WIDTH):
        code = program[at]
        if code < SUM:
            _elementwise(program, at, work)
        elif code == SUM:
            o, a, rows, cols = program[at + 1], program[at + 6], program[at + 4], program[at + 5]
            for i in range(rows):
                for j in range(cols):
                    place = o + i * program[at + 2] + j * program[at + 3]
                    work[place] += work[a + i * program[at + 7] + j * program[at + 8]]
        elif code == GATHER:
            o, a, step, index = program[at + 1], program[at + 6], program[at + 8], program[at + 10]
            for i in range(program[at + 5]):
                work[o + i] = work[a + step * indices[index + i]]
        elif code == NORMAL:
            _normal(program, at, work, 1.0)
        elif code == OFFSET:
            _normal(program, at, work, 0.0)
        elif code == RUNS:
            _runs(program, at, known, indices, work)
        elif code == DOT:
            _product(program, at, work)


@_jit
def _backward(program, known, indices, work, slope):  # type: ignore[no-untyped-def]
    """Run the instructions in reverse: add to `slope` the derivative of the log density by every number of `work`."""
    for at in range(program.size - WIDTH, -1, -WIDTH):
        code = program[at]
        if code < SUM:
            _elementwise_in_reverse(program, at, work, slope)
        elif code == SUM:
            o, a = program[at + 1], program[at + 6]
            for i in range(program[at + 4]):
                for j in range(program[at + 5]):
                    place = a + i * program[at + 7] + j * program[at + 8]
                    slope[place] += slope[o + i * program[at + 2] + j * program[at + 3]]
        elif code == GATHER:
            o, a, step, index = program[at + 1], program[at + 6], program[at + 8], program[at + 10]
            for i in range(program[at + 5]):
                slope[a + step * indices[index + i]] += slope[o + i]
        elif code == NORMAL:
            _normal_in_reverse(program, at, work, slope, 1.0)
        elif code == OFFSET:
            _normal_in_reverse(program, at, work, slope, 0.0)
        elif code == RUNS:
            _runs_in_reverse(program, at, known, indices, work, slope)
        elif code == DOT:
            _product_in_reverse(program, at, work, slope)


@_jit
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@_jit
def _stretch(x, directions, factors):  # type: ignore[no-untyped-def]
    """Stretch a point along orthonormal directions."""
    for k in range(factors.size):
        along = factors[k] * _dot(directions[k], x)
        for i in range(x.size):
            x[i] += along * directions[k, i]


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@_jit
def _floats(address, size):  # type: ignore[no-untyped-def]
    return numba.carray(_pointer(address), size, np.float64)


@_jit
def _ints(address, size):  # type: ignore[no-untyped-def]
    return numba.carray(_pointer(address), size, np.int64)


_NUMBERS = types.CPointer(types.double)


@numba.cfunc(types.int64(types.uint64, _NUMBERS, _NUMBERS, _NUMBERS, types.CPointer(types.int64)), **_fast)
def density_and_gradient(dimension, point, out, value, header):  # type: ignore[no-untyped-def]
    """Log density and its gradient, as nutpie calls them.

    Parameters
    ----------
    dimension : int
        Of the points.
    point, out : pointer to float
        Whitened parameters, and where the gradient goes.
    value : pointer to float
        Where the log density goes.
    header : pointer to int
        Addresses and sizes of the program, of what is known, of the indices (see `_forward`), of the layout, and of
        center, scale, directions and factors of `bayes_l2l.density.whitening.Whitening`. The layout says how many
        numbers of `work` are constants, how many constants and results, how many all, and where the log density is.
        Last the address of a `work`: if it is not 0, the program is run forward there, and that is all.

    Returns
    -------
    int
        0, or something else where the log density or its gradient is not finite.
    """
    numbers = numba.carray(header, HEADER)
    program, known = _ints(numbers[0], numbers[1]), _floats(numbers[2], numbers[3])
    indices, layout = _ints(numbers[4], numbers[5]), _ints(numbers[6], numbers[7])
    if numbers[16] != 0:
        _forward(program, known, indices, _floats(numbers[16], layout[2]))
        return 0
    center, scale = _floats(numbers[8], numbers[9]), _floats(numbers[10], numbers[11])
    factors = _floats(numbers[14], numbers[15])
    directions = _floats(numbers[12], numbers[13]).reshape((factors.size, center.size))
    z, gradient = numba.carray(point, center.size), numba.carray(out, center.size)
    first, n_results, n = layout[0], layout[1], center.size
    # At once: of two that are freed, the system would take the memory back at every call.
    both = np.empty(layout[2] + n_results)
    work, slope = both[: layout[2]], both[layout[2] :]
    for i in range(first):
        work[i] = known[i]
    for i in range(n):
        work[first + i] = z[i]
    _stretch(work[first : first + n], directions, factors)
    for i in range(n):
        work[first + i] = center[i] + scale[i] * work[first + i]
    for i in range(first + n, n_results):
        work[i] = 0.0
    for i in range(n_results):
        slope[i] = 0.0
    _forward(program, known, indices, work)
    slope[layout[3]] = 1.0
    _backward(program, known, indices, work, slope)
    total = value[0] = work[layout[3]]
    for i in range(n):
        gradient[i] = scale[i] * slope[first + i]
    _stretch(gradient, directions, factors)
    for i in range(n):
        total += gradient[i]
    return 0 if np.isfinite(total) else 3


@numba.cfunc(types.int64(types.uint64, types.uint64, _NUMBERS, _NUMBERS, types.CPointer(types.int64)), **_fast)
def copy(dimension, expanded, x, out, header):  # type: ignore[no-untyped-def]
    """Draws as they are: quantities are computed of all of them in the end."""
    for i in range(dimension):
        out[i] = x[i]
    return 0
