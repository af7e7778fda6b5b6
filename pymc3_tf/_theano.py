"""Makes Theano importable where NumPy no longer tells it about BLAS.

From 1.22 on, NumPy's build information lacks ``blas_opt_info``, without which ``import theano``
fails. PyMC3 3.11.6 works round it; PyMC3 3.11.4, the last for Python 3.11, does not. So there this
package has to be imported before PyMC3, or THEANO_FLAGS has to have ``blas__ldflags``.
"""

import os
import sys
import warnings


def _mend_blas_information() -> None:
    if "theano" in sys.modules or "blas__ldflags" in os.environ.get("THEANO_FLAGS", ""):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import numpy.distutils.__config__ as build

    if hasattr(build, "blas_opt_info"):
        return
    vars(build)["blas_opt_info"] = {}
    import theano

    # Processes that are started afresh inherit the answer: they may unpickle Theano first.
    flags = os.environ.get("THEANO_FLAGS", "")
    found = f"blas__ldflags={theano.config.blas__ldflags}"
    os.environ["THEANO_FLAGS"] = f"{flags},{found}" if flags else found


_mend_blas_information()
