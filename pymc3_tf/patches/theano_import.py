"""Makes Theano work with newer versions of other libraries, and imports it if that is to be done.

BLAS
    From 1.22 on, NumPy's build information lacks ``blas_opt_info``, without which ``import theano``
    fails. PyMC3 3.11.6 has a workaround; PyMC3 3.11.4, the last for Python 3.11, has not. So there
    this package has to be imported before PyMC3, or THEANO_FLAGS needs ``blas__ldflags``.
    SciPy's wheels for Linux bring an OpenBLAS that Theano's C code can be linked with; NumPy's own
    has other names for its functions.
scan
    Theano's C code for it includes a header that Python 3.11 does not have. Without it Theano takes
    its own loop in Python.
mode=TF
    Theano reads THEANO_FLAGS when it is imported, which is before the mode exists.
"""

import copyreg
import importlib.util
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple


def _flags(text: str) -> List[List[str]]:
    """Names and values of Theano's flags, in order, as Theano reads them."""
    reader = shlex.shlex(text, posix=True)
    reader.whitespace, reader.whitespace_split = ",", True
    return [flag.strip().split("=", 1) for flag in reader if "=" in flag]


def _add_flag(flag: str) -> None:
    """Set a flag of Theano in the environment, for new processes too."""
    flags = os.environ.get("THEANO_FLAGS", "")
    os.environ["THEANO_FLAGS"] = f"{flags},{flag}" if flags else flag


def _blas_of_scipy() -> Dict[str, List[str]]:
    """Describe SciPy's OpenBLAS, in the form of NumPy's build information; empty without one."""
    scipy = importlib.util.find_spec("scipy")
    if not sys.platform.startswith("linux") or scipy is None or scipy.origin is None:
        return {}
    folder = Path(scipy.origin).parent.with_name("scipy.libs")
    # Theano splits its flags at spaces, and the linker this one at commas.
    if any(character in str(folder) for character in " \t\n,\"'\\#"):
        return {}
    return {
        "library_dirs": [str(folder)],
        "libraries": [file.stem[3:] for file in sorted(folder.glob("libopenblas*.so"))[:1]],
        # With old tags the path holds for what OpenBLAS needs itself, too.
        "extra_link_args": [f"-Wl,-rpath,{folder}", "-Wl,--disable-new-dtags"],
    }


def _import_theano() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import numpy.distutils.__config__ as build

    if not hasattr(build, "blas_opt_info"):
        # Theano tries it, and takes another if it cannot be linked.
        vars(build)["blas_opt_info"] = _blas_of_scipy()
    import theano  # noqa: F401


def _mend_blas(imported: bool) -> None:
    """Give Theano a BLAS if neither the user nor Theano itself has one."""
    import theano
    from theano.link.c.cmodule import try_blas_flag

    option = theano.config._config_var_dict["blas__ldflags"]
    if imported and option.is_default and not theano.config.blas__ldflags:
        # It has searched already, and does not know SciPy's.
        blas = _blas_of_scipy()
        if blas.get("libraries"):
            flags = [f"-L{folder}" for folder in blas["library_dirs"]]
            flags += [f"-l{library}" for library in blas["libraries"]]
            theano.config.blas__ldflags = try_blas_flag(flags + blas["extra_link_args"])
    known = any(name == "blas__ldflags" for name, _ in _flags(os.environ.get("THEANO_FLAGS", "")))
    if option.is_default and not known and '"' not in theano.config.blas__ldflags:
        # They may unpickle Theano before this package.
        _add_flag(f'blas__ldflags="{theano.config.blas__ldflags}"')


def _new_scan(cls: Any) -> Any:
    """Make a scan without content. Unpickling one imports this module, which repairs it."""
    return cls.__new__(cls)


def _reduce_scan(op: Any) -> Tuple[Any, ...]:
    _, _, *state = op.__reduce_ex__(2)
    return (_new_scan, (type(op),), *state)


def _mend_scan() -> None:
    from theano.scan import op

    if sys.version_info < (3, 11) or "theano.scan.scan_perform_ext" in sys.modules:
        return
    code = Path(op.__file__).with_name("c_code") / "scan_perform.c"
    if code.is_file() and b'#include "longintrepr.h"' in code.read_bytes():
        sys.modules["theano.scan.scan_perform_ext"] = None  # type: ignore[assignment]
        copyreg.pickle(op.Scan, _reduce_scan)  # type: ignore[arg-type]


def _takes_mode_out_of_flags() -> bool:
    """Whether THEANO_FLAGS has mode=TF, which is overridden there until the mode exists.

    The environment keeps both, for processes that import Theano before this package.
    """
    modes = [value for name, value in _flags(os.environ.get("THEANO_FLAGS", "")) if name == "mode"]
    if modes[-1:] == ["TF"]:
        _add_flag("mode=Mode")
    return modes[-1:] == ["TF"] or modes[-2:] == ["TF", "Mode"]


mode_is_tf = _takes_mode_out_of_flags()
_imported = "theano" in sys.modules
if not _imported:
    _import_theano()
_mend_blas(_imported)
_mend_scan()
