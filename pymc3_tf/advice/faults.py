"""What to do about an error in a user's function of tensors: where it is, and what to write.

A tensor has no numbers while TensorFlow traces a function, so NumPy, Theano and plain Python fail
on it in many ways, none of which says what is wrong.
"""

from __future__ import annotations

import builtins
import collections
import linecache
import re
import sysconfig
import types
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import scipy.special
import tensorflow as tf

from pymc3_tf.advice.counterparts import function_text, method_text

# Faults of Python code that have nothing to do with tensors: they are raised as they are.
OWN_FAULTS = (LookupError, ArithmeticError, NameError, ImportError, OSError, MemoryError,
              RecursionError)  # fmt: skip

LIBRARIES = {
    "numpy": "NumPy", "scipy": "SciPy", "math": "Python's math module", "cmath": "Python",
    "theano": "Theano", "pymc3": "PyMC3", "pandas": "pandas", "xarray": "xarray",
    "statistics": "Python", "numba": "Numba", "jax": "JAX", "torch": "PyTorch",
    "astropy": "Astropy", "sklearn": "scikit-learn", "statsmodels": "statsmodels",
    "autograd": "autograd",
}  # fmt: skip
TENSORFLOW = {"tensorflow", "tensorflow_probability", "keras", "tf_keras", "pymc3_tf"}
# By name: capturing knows nothing of Theano.
_VARIABLE = ("theano.graph.basic", "Variable")
_GENERATED = "__autograph_generated_file"


class Place(NamedTuple):
    """Where in the user's code an error is."""

    file: str
    line: int
    function: str
    source: str
    text: str  # the part of the source that failed, as exactly as Python knows it
    exact: bool
    names: Mapping[str, Any]
    code: types.CodeType
    called: str  # the package that the user's code called

    def __str__(self) -> str:
        source = f": `{self.source}`" if self.source else ""
        return f"{self.file}:{self.line}, in {self.function}{source}"


def place_of(error: BaseException) -> Optional[Place]:
    """Return the innermost place in the user's own code; None if there is none."""
    current: Optional[BaseException] = error
    while current is not None:
        frames = list(_frames(current))
        users = [i for i, (frame, *_) in enumerate(frames) if _is_users(frame)]
        # Installed packages are the user's own code only if nothing else is.
        scripts = [i for i in users if "site-packages" not in frames[i][0].f_code.co_filename]
        if users:
            i = (scripts or users)[-1]
            called = frames[i + 1][0].f_globals.get("__name__") if frames[i + 1 :] else ""
            return _place(current, *frames[i], _root(called))
        current = current.__cause__ or current.__context__
    return None


def _frames(error: BaseException) -> Iterator[Tuple[types.FrameType, int, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno, traceback.tb_lasti
        traceback = traceback.tb_next


def _is_users(frame: types.FrameType) -> bool:
    file = frame.f_code.co_filename
    if _GENERATED in file:
        return True
    root = _root(frame.f_globals.get("__name__"))
    if root in TENSORFLOW or root in LIBRARIES or file.startswith("<frozen"):
        return False
    return not file.startswith(sysconfig.get_path("stdlib")) or "site-packages" in file


def _place(
    error: BaseException, frame: types.FrameType, line: int, instruction: int, called: str
) -> Place:
    code = frame.f_code
    file, function = code.co_filename, code.co_name
    names = {**vars(builtins), **frame.f_globals, **_locals(frame)}
    if _GENERATED in file:
        # TensorFlow rewrote the function, and knows where each line of it comes from.
        stack = getattr(getattr(error, "ag_error_metadata", None), "translated_stack", ())
        for origin in stack:
            if origin.is_converted:
                file, line, function = origin.filename, origin.lineno, origin.function_name
                break
        source = linecache.getline(file, line).strip()
        return Place(file, line, function, source, source, False, names, code, called)
    full = linecache.getline(file, line, frame.f_globals)
    if not full:
        return Place(file, line, function, "", _spelled(code, names), False, names, code, called)
    text, exact = full, False
    if hasattr(code, "co_positions"):
        start, end, first, last = list(code.co_positions())[instruction // 2]
        if start == end == line and None not in (first, last):
            text, exact = full.encode()[first:last].decode(errors="replace"), True
    return Place(file, line, function, full.strip(), text.strip(), exact, names, code, called)


def _spelled(code: types.CodeType, names: Mapping[str, Any]) -> str:
    """Return what a function may call, for one that has no source."""
    modules = [name for name in code.co_names if isinstance(names.get(name), types.ModuleType)]
    called = [f"{m}.{x}" for m in modules for x in code.co_names if hasattr(names[m], x)]
    return " ".join([*called, *code.co_freevars, *code.co_names])


def _locals(frame: types.FrameType) -> Mapping[str, Any]:
    """Return the local names; of a function that TensorFlow rewrote, of all its parts."""
    names, outer, file = dict(frame.f_locals), frame.f_back, frame.f_code.co_filename
    while _GENERATED in file and outer is not None:
        if outer.f_code.co_filename == file:
            names = {**outer.f_locals, **names}
        outer = outer.f_back
    return names


def said(error: BaseException) -> str:
    """Return what an error says, with its type, on one line of bounded length."""
    text = getattr(getattr(error, "ag_error_metadata", None), "cause_message", None)
    text = " ".join((text or f"{type(error).__name__}: {error}").split())
    return text if len(text) <= 300 else text[:300] + " ..."


def advice_on(
    error: BaseException, place: Optional[Place], inputs: Sequence[Tuple[str, str]]
) -> str:
    """Return what to write instead; empty if nothing is known.

    Parameters
    ----------
    error : Exception
        What the user's function raised.
    place : Place, optional
        Where.
    inputs : sequence of (str, str)
        Names and dtypes of the tensors that the function got.
    """
    text = said(error)
    found = list(_objects(place)) if place else []
    return (
        _on_variable(found)
        or (_on_library(place, found, text) if place else "")
        or _on_dtypes(text, found, inputs)
        or next((advice for pattern, advice in _PATTERNS if re.search(pattern, text)), "")
        or _on_attribute(error, text)
        or _on_variable(list(_closed_over(place)) if place else [])
        or (_NO_NUMBERS if "symbolic" in text else "")
    )


def result_text(output: Any) -> str:
    """Return what to do about something that a function returned and that is no tensor."""
    if _is_theanos(output):
        return _on_variable([(output.name or "x", output)])
    return (
        "Compute with TensorFlow ops (tf.math, tf.linalg, ...) instead of NumPy or Python numbers."
    )


# -- what the source is about ---------------------------------------------------------------------

_DOTTED = re.compile(r"(?<![\w.'\"])[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")
_ITEM = re.compile(r"\s*\[\s*(?:'([^']*)'|\"([^\"]*)\"|(\d+))\s*\]")


def _objects(place: Place) -> Iterator[Tuple[str, Any]]:
    """Yield the names in the source that failed, with what they stand for."""
    for match in _DOTTED.finditer(place.text):
        first, *rest = [part.strip() for part in match.group().split(".")]
        if first not in place.names:
            continue
        found, path = place.names[first], first
        try:
            for part in rest:
                if _is_theanos(found):
                    break
                found, path = getattr(found, part), f"{path}.{part}"
        except Exception:  # of the user's own properties
            pass
        else:
            item = _ITEM.match(place.text, match.end())
            if item:
                key = item.group(1) or item.group(2) or int(item.group(3) or 0)
                try:
                    found, path = found[key], path + item.group().strip()
                except Exception:
                    pass
        yield path, found


def _closed_over(place: Place) -> Iterator[Tuple[str, Any]]:
    for name in (*place.code.co_freevars, *place.code.co_names):
        if _is_theanos(place.names.get(name)):
            yield name, place.names[name]


def _is_theanos(x: Any) -> bool:
    """Whether something is a variable of Theano, as those of PyMC3 are."""
    return any((c.__module__, c.__name__) == _VARIABLE for c in type(x).__mro__)


def _root(module: Any) -> str:
    return module.split(".")[0] if isinstance(module, str) else ""


def _module_of(x: Any) -> str:
    """Return the module in which a function, or the class of an object, is."""
    if isinstance(x, np.ufunc):
        return "scipy" if getattr(scipy.special, x.__name__, None) is x else "numpy"
    module = getattr(x, "__module__", None)
    if not isinstance(module, str):
        owner = getattr(x, "__self__", None)
        owner = owner if owner is not None and not isinstance(owner, types.ModuleType) else x
        module = getattr(type(owner), "__module__", "")
    return module if isinstance(module, str) else ""


# -- the causes -----------------------------------------------------------------------------------

_NO_NUMBERS = (
    "A tensor has no numbers while TensorFlow traces the function, and something here makes a "
    "NumPy array of it. Write it with TensorFlow's functions (tf.exp, tf.reduce_sum, tf.math, "
    "tf.linalg, ...)."
)


def _on_variable(found: Sequence[Tuple[str, Any]]) -> str:
    for text, x in found:
        variable = _variable_in(x)
        if variable is not None:
            name = getattr(variable, "name", None) or text
            argument = name if name.isidentifier() else "x"
            return (
                f"{name!r} is a variable of PyMC3 or Theano ({type(variable).__name__}), which "
                "TensorFlow knows nothing of. Put it into params, under the name of an argument "
                f"of the function: params={{{argument!r}: {text}, ...}}, and use the argument."
            )
    return ""


def _variable_in(x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.dtype == object:
        x = x.ravel().tolist()
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else [x]
    return next((part for part in parts if _is_theanos(part)), None)


def _on_library(place: Place, found: Sequence[Tuple[str, Any]], error: str) -> str:
    """Return what to write for functions of other libraries, if the failure is theirs."""
    theirs = [(text, x) for text, x in found if _root(_module_of(x)) in LIBRARIES]
    functions = [(text, x) for text, x in theirs if callable(x)]
    if place.exact and functions and _is_call_of(place.text, functions[0][0]):
        return _functions_text(functions[:1])
    refused = re.search("convert a symbolic|must be real number", error)
    if place.called not in LIBRARIES and not refused:
        return ""
    if functions:
        with_tensors = [(text, x) for text, x in functions if _gets_tensor(place, text)]
        return _functions_text(with_tensors or functions)
    for text, _ in theirs:
        if re.search(re.escape(text) + r"\s*\[", place.text):
            return (
                f"{text!r} is an array, which a tensor cannot index. Write "
                f"tf.gather({text}, index), or tf.boolean_mask for a condition."
            )
    kind = _root(_module_of(theirs[0][1])) if theirs else ""
    if kind and kind != "numpy":
        text = theirs[0][0]
        return (
            f"{text!r} is an object of {LIBRARIES[kind]}, and does not go with tensors. Make an "
            f"array of it, np.asarray({text}, float), and put that into feed_dict, or write "
            f"tf.constant(np.asarray({text}, float))."
        )
    method = re.search(r"\.\s*(\w+)\s*\($", place.text.split(")")[0])
    return method_text(method.group(1)) if method and method.group(1) == "numpy" else ""


def _is_call_of(text: str, function: str) -> bool:
    return re.match(re.escape(function) + r"\s*\(", text) is not None and text.endswith(")")


def _gets_tensor(place: Place, function: str) -> bool:
    """Whether a tensor stands between the parentheses of a call."""
    call = re.search(re.escape(function) + r"\s*\(", place.text)
    depth, end = 1, call.end() if call else len(place.text)
    start = end
    while depth and end < len(place.text):
        depth += {"(": 1, ")": -1}.get(place.text[end], 0)
        end += 1
    names = re.findall(r"[A-Za-z_]\w*", place.text[start:end])
    return any(tf.is_tensor(place.names.get(name)) for name in names)


def _functions_text(functions: Sequence[Tuple[str, Any]]) -> str:
    texts = []
    for text, x in dict(functions).items():
        library = LIBRARIES[_root(_module_of(x))]
        texts.append(
            f"{text} is of {library}, and a tensor has no numbers here. {_instead(text, x)}"
        )
    return " ".join(texts)


def _instead(text: str, x: Any) -> str:
    module = _module_of(x)
    if ".random" in module or isinstance(getattr(x, "__self__", None), np.random.RandomState):
        return (
            "Random numbers cannot be drawn inside of a log density: make them a variable of the "
            "model, or, in random=, use tf.random.stateless_normal and its like."
        )
    if module.startswith(("scipy.stats", "pymc3.distributions")):
        return (
            "Write the formula with TensorFlow's functions, or use TensorFlow Probability, such as "
            "tfp.distributions.Normal(mu, sigma).log_prob(y). (tf.math.lgamma, tf.math.log, ... "
            "are what most formulas need.)"
        )
    known = function_text([text.split(".")[-1], getattr(x, "__name__", type(x).__name__)])
    if known is None:
        return "Write it with TensorFlow's functions (tf.math, tf.linalg, tf.reduce_sum, ...)."
    return f"Write {known} instead."


_DTYPES = re.compile(
    r"has type \w+ that does not match|don't all match|was expected to be an? \w+ tensor but is"
    r"|conversion requested dtype|has DataType \w+ not in|Expected \w+ passed to parameter"
    r"|Expected \w+, but got|EagerTensor of dtype|incompatible dtype|same (?:d|data )type"
    r"|dtype mismatch|mismatched dtypes|to be of type|dtypes? .* (?:do not|don't|does not) match"
)


def _of_theano(error: str) -> bool:
    return re.search(r"'(\w+RV|DeterministicWrapper|Tensor\w*Variable)'", error) is not None


def _on_dtypes(
    error: str, found: Sequence[Tuple[str, Any]], inputs: Sequence[Tuple[str, str]]
) -> str:
    if _of_theano(error):
        return (
            "The function uses a variable of PyMC3 or Theano, which TensorFlow knows nothing of. "
            "Put it into params, under the name of an argument of the function, and use the "
            "argument."
        )
    if "parameter 'indices'" in error or not _DTYPES.search(error):
        return ""
    dtypes = collections.Counter(dtype for _, dtype in inputs if dtype.startswith("float"))
    floating = dtypes.most_common(1)[0][0] if dtypes else "float64"
    texts = [f"TensorFlow does not mix dtypes, and parameters and the value arrive in {floating}."]
    integers = [name for name, dtype in inputs if np.dtype(dtype).kind in "iu"]
    others = [
        f"{name!r} is {dtype}"
        for name, dtype in dict([*inputs, *_dtypes_in(found)]).items()
        if dtype != floating and name not in integers
    ]
    if integers:
        texts.append(
            f"Integers: {', '.join(integers)}. If they are to be numbers like the others, give 1.0 "
            "instead of 1, or np.asarray(x, float) instead of x, and for a discrete variable "
            f"write tf.cast({integers[0]}, tf.{floating})."
        )
    if others:
        texts.append(f"Here {', '.join(others)}.")
    texts.append(
        f'Make all of them {floating}: tf.constant(1.0, tf.{floating}) for a constant, x.astype("'
        f'{floating}") for an array, tf.cast(x, tf.{floating}) for a tensor. For Keras, give '
        f'dtype="{floating}" to each layer, or call tf.keras.backend.set_floatx("{floating}") '
        "before the network is built."
    )
    return " ".join(texts)


def _dtypes_in(found: Sequence[Tuple[str, Any]]) -> Iterator[Tuple[str, str]]:
    for text, x in found:
        if isinstance(x, (tf.Tensor, tf.Variable, np.ndarray, np.generic)):
            dtype = x.dtype.name
            if not isinstance(x, np.ndarray) or x.dtype.kind in "biufc":
                yield text, dtype
        elif "keras" in _module_of(x) and getattr(x, "weights", None):
            yield text, str(getattr(x, "compute_dtype", None) or x.weights[0].dtype)


_PATTERNS: List[Tuple[str, str]] = [
    (
        "must be real number|float\\(\\) argument|__float__",
        "A tensor has no number here. Compute with the tensor itself; tf.cast(x, tf.float64) "
        "changes its dtype.",
    ),
    (
        "int\\(\\) argument|__int__|__trunc__",
        "A tensor has no number here. Compute with the tensor itself; tf.cast(x, tf.int32) makes "
        "it an integer, and x.shape has the sizes that are known.",
    ),
    ("complex\\(\\)", "A tensor has no number here. Write tf.complex(real, imaginary)."),
    (
        "len is not well defined|has no len\\(\\)",
        "Write x.shape[0] for the length, or tf.shape(x)[0] where it is not known beforehand. A "
        "scalar has none.",
    ),
    (
        "as a Python `bool`|a `bool` is not allowed",
        "A tensor is neither true nor false here. Write tf.where(condition, a, b), or tf.cond, for "
        "`if`; tf.logical_and for `and` and for a < x < b; tf.minimum for min; and "
        "tf.debugging.assert_... for assert.",
    ),
    (
        "[Ii]terating over a",
        "Python cannot go through the elements of a tensor here. Write tf.unstack(x) where the "
        "length is known, tf.map_fn or tf.scan where it is not, and tf.reduce_sum(x) for sum(x).",
    ),
    (
        "item assignment|setting an array element|item deletion",
        "A tensor cannot be changed, nor put into an array. Write z = "
        "tf.tensor_scatter_nd_update(z, [[0]], [x]) for z[0] = x, or build z of its parts by "
        "tf.stack or tf.concat.",
    ),
    (
        "valid indices|indices must be integers|parameter 'indices'|as an integer|integer scalar "
        "arrays|unhashable|not hashable",
        "Write tf.gather(x, i) for x[i] with several indices, or with a tensor as the index of a "
        "list or an array, and tf.boolean_mask(x, mask) for x[mask]. An index has to be an "
        "integer: tf.cast(i, tf.int32). For range(n) write tf.range(n).",
    ),
    ("__round__", "Write tf.round(x)."),
    (
        "Expected any non-tensor type",
        "tf.constant takes no tensor. Use the tensor itself, or tf.identity(x).",
    ),
    ("__format__", "A tensor has no number to format here. Leave it out, or use tf.print."),
    (
        "evaluate tensor using `eval|No default session|Session graph is empty",
        "A tensor has no value here. Compute with the tensor itself and TensorFlow's functions, "
        "such as tf.exp.",
    ),
    (
        "rank [2-9] but is rank 1.*[Mm]at_?[Mm]ul|[Mm]at_?[Mm]ul.*rank [2-9] but is rank 1"
        "|ndims must be >= 2",
        "`@` is for matrices only. Write tf.linalg.matvec(matrix, vector), or tf.tensordot(a, b, "
        "1) for two vectors.",
    ),
]


def _on_attribute(error: BaseException, text: str) -> str:
    found = re.search(r"Tensor'? object has no attribute '(\w+)'", text)
    return method_text(found.group(1)) if found and isinstance(error, AttributeError) else ""
