"""Where in the user's own code an error is, and what it says there."""

from __future__ import annotations

import builtins
import linecache
import sysconfig
import types
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Tuple

LIBRARIES = {
    "numpy": "NumPy", "scipy": "SciPy", "math": "Python's math module", "cmath": "Python",
    "theano": "Theano", "pymc3": "PyMC3", "pandas": "pandas", "xarray": "xarray",
    "statistics": "Python", "numba": "Numba", "jax": "JAX", "torch": "PyTorch",
    "astropy": "Astropy", "sklearn": "scikit-learn", "statsmodels": "statsmodels",
    "autograd": "autograd",
}  # fmt: skip
TENSORFLOW = {"tensorflow", "tensorflow_probability", "keras", "tf_keras", "pymc3_tf"}
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
            return _place(current, *frames[i], package_of(called))
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
    root = package_of(frame.f_globals.get("__name__"))
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


def package_of(module: Any) -> str:
    """Return the package of a module, by its name."""
    return module.split(".")[0] if isinstance(module, str) else ""
