"""What to write in TensorFlow for functions and methods of NumPy, SciPy, Theano and PyMC3."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

# By the last part of their names, which have the same meaning in all of these packages.
_FUNCTIONS: Dict[str, str] = {
    name: f"{prefix}{name}"
    for prefix, names in {
        "tf.": "exp sqrt square abs sin cos tan sinh cosh tanh pow sign floor round maximum minimum"
        " where cumsum einsum tensordot concat stack reshape transpose squeeze expand_dims tile"
        " repeat zeros ones zeros_like ones_like linspace eye sort argsort logical_and logical_or"
        " logical_not sigmoid norm cast range reverse roll unique matmul gather fill",
        "tf.math.": "log log1p expm1 ceil cumprod digamma polygamma erf erfc erfinv betainc zeta"
        " xlogy xlog1py softplus floormod lgamma is_nan",
        "tf.linalg.": "cholesky inv det slogdet solve eigh eigvalsh svd qr pinv lstsq expm diag"
        " trace cross",
        "tf.signal.": "fft ifft rfft irfft",
        "tf.nn.": "softmax log_softmax elu relu",
        "tf.math.bessel_": "i0 i1 i0e i1e",
        "tf.math.special.bessel_": "j0 j1 k0 k1 y0 y1",
    }.items()
    for name in names.split()
}
_FUNCTIONS.update(
    {
        **dict.fromkeys(["absolute", "fabs", "abs_"], "tf.abs"),
        **dict.fromkeys(["sqr"], "tf.square"),
        **dict.fromkeys(["power", "float_power"], "tf.pow"),
        **dict.fromkeys(["sgn", "copysign"], "tf.sign"),
        **dict.fromkeys(["rint", "around", "round_", "iround"], "tf.round"),
        **dict.fromkeys(["fmax"], "tf.maximum"),
        **dict.fromkeys(["fmin"], "tf.minimum"),
        **dict.fromkeys(["clip"], "tf.clip_by_value"),
        **dict.fromkeys(["switch", "select", "piecewise", "heaviside", "ifelse"], "tf.where"),
        **dict.fromkeys(["sum", "nansum", "fsum"], "tf.reduce_sum"),
        **dict.fromkeys(["mean", "average", "nanmean"], "tf.reduce_mean"),
        **dict.fromkeys(["prod", "product"], "tf.reduce_prod"),
        **dict.fromkeys(["max", "amax", "nanmax"], "tf.reduce_max"),
        **dict.fromkeys(["min", "amin", "nanmin"], "tf.reduce_min"),
        **dict.fromkeys(["any"], "tf.reduce_any"),
        **dict.fromkeys(["all"], "tf.reduce_all"),
        **dict.fromkeys(["std", "nanstd"], "tf.math.reduce_std"),
        **dict.fromkeys(["var", "nanvar"], "tf.math.reduce_variance"),
        **dict.fromkeys(["argmax"], "tf.argmax"),
        **dict.fromkeys(["argmin"], "tf.argmin"),
        **dict.fromkeys(["arcsin", "asin"], "tf.asin"),
        **dict.fromkeys(["arccos", "acos"], "tf.acos"),
        **dict.fromkeys(["arctan", "atan"], "tf.atan"),
        **dict.fromkeys(["arctan2", "atan2"], "tf.atan2"),
        **dict.fromkeys(["arcsinh", "asinh"], "tf.asinh"),
        **dict.fromkeys(["arccosh", "acosh"], "tf.acosh"),
        **dict.fromkeys(["arctanh", "atanh"], "tf.atanh"),
        "log2": "tf.math.log(x) / np.log(2.0)",
        "log10": "tf.math.log(x) / np.log(10.0)",
        "exp2": "2.0 ** x",
        "cbrt": "x ** (1.0 / 3.0)",
        "reciprocal": "1.0 / x",
        "inverse": "1.0 / x",
        "hypot": "tf.sqrt(x**2 + y**2)",
        "add": "+",
        "subtract": "-",
        "multiply": "*",
        "divide": "/",
        "true_divide": "/",
        "negative": "-x",
        "mod": "tf.math.floormod",
        "fmod": "tf.math.floormod",
        "logaddexp": "tf.reduce_logsumexp(tf.stack([a, b]), axis=0)",
        "logsumexp": "tf.reduce_logsumexp",
        "dot": "tf.tensordot(a, b, 1), or tf.linalg.matvec for a matrix and a vector",
        "vdot": "tf.tensordot(a, b, 1)",
        "inner": "tf.tensordot(a, b, 1)",
        "outer": "a[:, None] * b[None, :]",
        "kron": "tf.linalg.LinearOperatorKronecker",
        "batched_dot": "tf.linalg.matmul",
        "multi_dot": "tf.linalg.matmul",
        **dict.fromkeys(["concatenate", "hstack", "vstack", "append", "insert"], "tf.concat"),
        **dict.fromkeys(["column_stack", "dstack"], "tf.stack"),
        **dict.fromkeys(["array", "atleast_1d", "as_tensor_variable"], "tf.stack"),
        **dict.fromkeys(["asarray", "asanyarray", "ascontiguousarray"], "tf.convert_to_tensor"),
        **dict.fromkeys(["ravel", "flatten"], "tf.reshape(x, [-1])"),
        **dict.fromkeys(["broadcast_to"], "tf.broadcast_to"),
        **dict.fromkeys(["swapaxes", "moveaxis", "dimshuffle"], "tf.transpose"),
        **dict.fromkeys(["full", "full_like"], "tf.fill"),
        **dict.fromkeys(["arange"], "tf.range"),
        **dict.fromkeys(["take", "choose"], "tf.gather"),
        **dict.fromkeys(["compress", "extract"], "tf.boolean_mask"),
        **dict.fromkeys(["diagonal", "extract_diag"], "tf.linalg.diag_part"),
        **dict.fromkeys(["fill_diagonal"], "tf.linalg.set_diag"),
        **dict.fromkeys(["tril", "triu"], "tf.linalg.band_part"),
        **dict.fromkeys(["flip", "flipud", "fliplr"], "tf.reverse"),
        **dict.fromkeys(["diff", "ediff1d"], "x[1:] - x[:-1]"),
        **dict.fromkeys(["convolve", "correlate", "fftconvolve"], "tf.nn.conv1d"),
        **dict.fromkeys(["interp", "interp1d"], "tfp.math.interp_regular_1d_grid"),
        **dict.fromkeys(
            ["trapz", "trapezoid", "simps", "simpson", "quad", "romb", "cumtrapz"],
            "tf.reduce_sum(weights * f(nodes)) with the nodes of a quadrature rule",
        ),
        **dict.fromkeys(["odeint", "solve_ivp", "ode"], "tfp.math.ode.DormandPrince"),
        **dict.fromkeys(["isnan", "isnull"], "tf.math.is_nan"),
        **dict.fromkeys(["isinf"], "tf.math.is_inf"),
        **dict.fromkeys(["isfinite"], "tf.math.is_finite"),
        **dict.fromkeys(["float64", "float32", "int64", "int32", "astype"], "tf.cast(x, dtype)"),
        "deg2rad": "x * (np.pi / 180.0)",
        "radians": "x * (np.pi / 180.0)",
        "rad2deg": "x * (180.0 / np.pi)",
        "degrees": "x * (180.0 / np.pi)",
        "polyval": "tf.math.polyval",
        "bincount": "tf.math.unsorted_segment_sum",
        "count_nonzero": "tf.math.count_nonzero",
        "searchsorted": "tf.searchsorted",
        "digitize": "tf.searchsorted",
        "matrix_inverse": "tf.linalg.inv",
        "eigvals": "tf.linalg.eigvals",
        "eig": "tf.linalg.eig",
        "solve_triangular": "tf.linalg.triangular_solve",
        "solve_lower_triangular": "tf.linalg.triangular_solve",
        "solve_upper_triangular": "tf.linalg.triangular_solve",
        "cho_solve": "tf.linalg.cholesky_solve",
        "cho_factor": "tf.linalg.cholesky",
        "logdet": "tf.linalg.logdet",
        "toeplitz": "tf.linalg.LinearOperatorToeplitz",
        **dict.fromkeys(["gammaln", "loggamma"], "tf.math.lgamma"),
        **dict.fromkeys(["gamma"], "tf.exp(tf.math.lgamma(x))"),
        **dict.fromkeys(["factorial"], "tf.exp(tf.math.lgamma(n + 1.0))"),
        **dict.fromkeys(["binom", "comb", "binomln"], "tf.math.lgamma"),
        **dict.fromkeys(["beta"], "tf.exp(tf.math.lbeta(tf.stack([a, b], -1)))"),
        **dict.fromkeys(["betaln"], "tf.math.lbeta(tf.stack([a, b], -1))"),
        **dict.fromkeys(["psi"], "tf.math.digamma"),
        **dict.fromkeys(["trigamma", "tri_gamma"], "tf.math.polygamma"),
        **dict.fromkeys(["gammainc"], "tf.math.igamma"),
        **dict.fromkeys(["gammaincc"], "tf.math.igammac"),
        **dict.fromkeys(["erfcinv"], "tf.math.erfcinv"),
        **dict.fromkeys(["erfcx"], "tfp.math.erfcx"),
        **dict.fromkeys(["lambertw"], "tfp.math.lambertw"),
        **dict.fromkeys(["kv", "kve"], "tfp.math.bessel_kve"),
        **dict.fromkeys(["iv", "ive"], "tfp.math.bessel_ive"),
        **dict.fromkeys(["ndtr", "probit"], "0.5 * tf.math.erfc(-x / np.sqrt(2.0))"),
        **dict.fromkeys(["ndtri", "invprobit"], "tf.math.ndtri"),
        **dict.fromkeys(["log_ndtr"], "tfp.distributions.Normal(0.0, 1.0).log_cdf"),
        **dict.fromkeys(["expit", "invlogit", "ultra_fast_sigmoid"], "tf.sigmoid"),
        **dict.fromkeys(["log_expit"], "tf.math.log_sigmoid"),
        **dict.fromkeys(["logit"], "tf.math.log(p / (1.0 - p))"),
        **dict.fromkeys(["log1pexp"], "tf.math.softplus"),
        **dict.fromkeys(["fft2"], "tf.signal.fft2d"),
        **dict.fromkeys(["grad", "gradient", "jacobian"], "tf.gradients"),
        **dict.fromkeys(["scan", "fori_loop"], "tf.scan"),
        **dict.fromkeys(["vectorize", "apply_along_axis", "fromiter"], "tf.map_fn"),
    }
)
# Methods of arrays. Others are looked up among the functions.
_METHODS: Dict[str, str] = {
    "T": "tf.transpose(x)",
    "size": "tf.size(x)",
    "copy": "tf.identity(x)",
    "fill": "tf.fill",
    "ptp": "tf.reduce_max(x) - tf.reduce_min(x)",
    "tolist": "tf.unstack(x)",
    "view": "tf.bitcast(x, dtype)",
    "real": "tf.math.real(x)",
    "imag": "tf.math.imag(x)",
    "conj": "tf.math.conj(x)",
    "flat": "tf.reshape(x, [-1])",
}
# Methods and attributes that return the numbers of an array.
_NUMBERS = ("numpy", "item", "eval", "value", "values", "to_numpy", "get_value", "test_value")


def function_text(names: Sequence[str]) -> Optional[str]:
    """Return what to write for a function that has one of these names; None if unknown."""
    return next((_FUNCTIONS[name] for name in names if name in _FUNCTIONS), None)


def method_text(name: str) -> str:
    """Return what to do about a method or attribute that arrays have and tensors lack."""
    if name in _NUMBERS:
        return (
            f"A tensor has no .{name} here: it has no numbers while TensorFlow traces the "
            "function. Compute with the tensor itself and TensorFlow's functions, such as tf.exp."
        )
    found = _METHODS.get(name) or _FUNCTIONS.get(name)
    if found is None:
        return (
            f"A tensor has no .{name}, or not here. It is no NumPy array: compute with "
            "TensorFlow's functions (tf.math, tf.linalg, ...)."
        )
    return f"A tensor has no .{name}: it is no NumPy array. Write {found} instead."
