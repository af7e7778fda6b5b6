"""Packaging of pymc3_tf. The tools' settings are in pyproject.toml."""

# Nothing may come before this check, and it must run on any Python: installing on a version that
# PyMC3 3 cannot support fails late and obscurely, in the middle of building Theano-PyMC.
import sys

if not ((3, 8) <= sys.version_info[:2] <= (3, 11)):
    sys.exit(
        "pymc3-tf needs Python 3.8, 3.9, 3.10 or 3.11, and this is Python "
        + ".".join(str(part) for part in sys.version_info[:3])
        + ": make a new virtual environment with one of those,"
        + " for example with 'python3.11 -m venv --clear .venv'."
    )

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).resolve().parent
version = re.search(
    r'^__version__ = "([^"]+)"', (root / "pymc3_tf/_version.py").read_text("utf-8"), re.MULTILINE
).group(1)

# Each cap stands for something that breaks. The markers say outright where the caps lead anyway: if
# it has to search for that, the pip that comes with Python 3.10 fetches fifteen TensorFlows, 8 GB.
install_requires = [
    # PyMC3 3.11.5 and 3.11.6 need numpy < 1.22.2, which does not exist for Python 3.11.
    'pymc3>=3.11.5,<4; python_version < "3.11"',
    'pymc3==3.11.4; python_version >= "3.11"',
    # TensorFlow 2.14 needs numpy 1.23.5 or later, TensorFlow 2.18 needs numpy 1.26 or later. Before
    # 2.12 its wheel lacks the library with which XLA calls our C++; 2.12 is the oldest we try.
    'tensorflow>=2.12,<2.14; python_version < "3.11"',
    'tensorflow>=2.12,<2.18; python_version >= "3.11"',
    # numpy 1.24 has no np.int and np.complex, which Theano-PyMC uses.
    'numpy<1.22.2; python_version < "3.11"',
    'numpy<1.24; python_version >= "3.11"',
    # scipy 1.13 has no scipy.signal.gaussian, which ArviZ before 0.15 imports; PyMC3 3.11.5 and
    # 3.11.6 need scipy < 1.8.
    'scipy<1.8; python_version < "3.11"',
    'scipy<1.13; python_version >= "3.11"',
    # ArviZ 0.15 has no from_pymc3, which pymc3.sample calls; ArviZ 0.13 needs scipy 1.8 or later.
    'arviz<0.13; python_version < "3.11"',
    'arviz<0.15; python_version >= "3.11"',
    # netCDF4 1.7 is compiled with numpy 2, and warns on Python 3.9 that it may not fit numpy 1.22.
    'netcdf4<1.7; python_version < "3.11"',
    # matplotlib 3.10 has no QuadContourSet.collections, which ArviZ before 0.15 uses.
    "matplotlib<3.10",
    # cachetools 8 raises when a cachedmethod is not the outermost decorator, as in pymc3.Model.
    "cachetools<8",
    # fastprogress 1.1 draws PyMC3's progress bar like 1.0, but brings a web server along.
    "fastprogress<1.1",
    # setuptools 74 has no distutils.msvccompiler, which numpy.distutils imports, which PyMC3 needs
    # to help Theano find its BLAS.
    "setuptools<74",
    "dill",
]

# Each TensorFlow Probability goes with one TensorFlow; these are the ones that the numpy cap above
# leads to. TensorFlow 2.17 comes with Keras 3, Probability needs Keras 2: tf-keras.
tfp = [
    'tensorflow==2.13.*; python_version < "3.11"',
    'tensorflow-probability==0.21.*; python_version < "3.11"',
    'tensorflow==2.17.*; python_version >= "3.11"',
    'tensorflow-probability==0.24.*; python_version >= "3.11"',
    'tf-keras==2.17.*; python_version >= "3.11"',
]

# Later ones need typing_extensions 4.6, which TensorFlow 2.13 does not take.
old_jupyter = [
    'ipykernel<7.3; python_version < "3.11"',
    'jupyter_client<8.9; python_version < "3.11"',
    'ipython<8.19; python_version < "3.11"',
]

extras_require = {
    "tfp": tfp,
    "docs": [
        "sphinx>=5",
        "furo",
        "myst-nb>=0.17",  # the pages, and the notebooks among them
        "jupyter-cache>=0.5",  # keeps what notebooks have computed
        "sphinx-design",  # cards and tabs
        "sphinx-copybutton",
        "sphinxcontrib-bibtex>=2.5",
        "latex2mathml>=3.75",  # formulas as the browser's own MathML: nothing to fetch
        "matplotlib",
        *tfp,
        "statsmodels",  # data of the gallery
        "scikit-learn",
        # Later ones need typing_extensions 4.6, as below.
        'sqlalchemy<2; python_version < "3.11"',  # of jupyter-cache
        *old_jupyter,
    ],
    "dev": [
        *tfp,
        "pytest>=7",
        "pytest-xdist",
        "hypothesis",
        "cloudpickle",
        "graphviz",
        "ipykernel",
        "jupyter_client",
        *old_jupyter,
        # Later ones need typing_extensions 4.6, as below.
        'cryptography<46; python_version < "3.11"',  # of twine
        "ruff",
        "pre-commit",
        "build",
        "twine",
        # TensorFlow 2.13 needs typing_extensions before 4.6, which later ones of these do not take.
        'mypy; python_version >= "3.11"',
        'mypy<1.11; python_version < "3.11"',
        'tox>=4; python_version >= "3.11"',
        'tox>=4,<4.21; python_version < "3.11"',
        'virtualenv<20.34; python_version < "3.11"',
    ],
}

setup(
    name="pymc3-tf",
    version=version,
    description="TensorFlow log densities as distributions of PyMC3 models",
    long_description=(root / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="The pymc3_tf developers",
    license="MIT",
    packages=find_packages(include=["pymc3_tf", "pymc3_tf.*"]),
    package_data={"pymc3_tf": ["py.typed", "citations.bib"], "pymc3_tf.host": ["*.cc", "*.h"]},
    zip_safe=False,
    python_requires=">=3.8,<3.12",
    install_requires=install_requires,
    extras_require=extras_require,
    keywords=["Bayesian inference", "MCMC", "NUTS", "PyMC3", "Theano", "TensorFlow"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.8",
        "Programming Language :: Python :: 3.9",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
