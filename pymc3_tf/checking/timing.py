"""Where the time of a gradient goes: TensorFlow, its way through Theano, and the samplers."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pymc3 as pm
import tensorflow as tf

from pymc3_tf.checking.subjects import Applied, Subject
from pymc3_tf.programs.differentiation import value_and_vjp
from pymc3_tf.programs.program import Program
from pymc3_tf.runtime import failures, forks, functions
from pymc3_tf.sampling.sample import outside_of_graphs
from pymc3_tf.sampling.unconstrained import UnconstrainedModel, require_continuous

# How far evaluations are from each other: no result of another one is remembered for them.
_JITTER = 1e-6
_random = np.random.RandomState()
# In how many turns times are measured that are compared with each other.
_TURNS = 5

# Given seconds to spend, it goes on measuring, and returns the time of a call by all it has seen.
Timer = Callable[[float], float]


@outside_of_graphs
def profile(model: Optional[pm.Model] = None, *, seconds: float = 2.0) -> Profile:
    """Measure where the time of a gradient of a model goes.

    Parameters
    ----------
    model : pymc3.Model, optional
        Default: the model on the context stack. Its free variables have to be continuous.
    seconds : float
        For how long to measure, all in all. Compiling comes on top of it.

    Returns
    -------
    Profile
        ``print`` it for a table; its ``plot()`` draws a bar chart.

    Raises
    ------
    pymc3_tf.exceptions.DiscreteVariableError
        If the model has discrete free variables.
    ValueError
        If nothing in the model is computed by TensorFlow.

    Examples
    --------
    >>> import pymc3_tf
    >>> import pymc3 as pm
    >>> with pm.Model() as model:
    ...     x = pm.TFDensity("x", lambda x: -0.5 * x**2)
    >>> profile = pymc3_tf.profile(model, seconds=0.2)
    >>> [part.name for part in profile.parts]
    ['TensorFlow', 'casts and memo', 'Theano', "PyMC3's NUTS"]
    >>> profile.total == sum(part.seconds for part in profile.parts)
    True
    """
    forks.refuse("pymc3_tf.profile")
    subject = Subject(pm.modelcontext(model))
    require_continuous(subject.model)
    if not subject.parts:
        raise ValueError("nothing in the model is computed by TensorFlow. Give another model.")
    with failures.apart():
        applied = subject.applied(subject.point())
        timers = bare(applied), bridged(applied), theano(subject.model), nuts(subject.model)
        times = by_turns(timers, seconds)
    marks = np.maximum.accumulate([0.0, *times])
    return Profile([Part(*pair) for pair in zip(_NAMES, np.diff(marks))])


_NAMES = ("TensorFlow", "casts and memo", "Theano", "PyMC3's NUTS")
_WHAT = {
    "TensorFlow": "value and gradient of what TensorFlow computes",
    "casts and memo": "checks of shapes, copies, and the search for results that are known",
    "Theano": "the rest of the model: priors, transforms, and calling the ops",
    "PyMC3's NUTS": "its Python for each leapfrog step",
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the time of a gradient.

    Attributes
    ----------
    name : str
    seconds : float
        For one gradient, with one leapfrog step.
    """

    name: str
    seconds: float


@dataclasses.dataclass(frozen=True, repr=False)
class Profile:
    """Where the time of a gradient in ``pm.sample`` goes.

    Attributes
    ----------
    parts : list of Part
    """

    parts: List[Part]

    @property
    def total(self) -> float:
        """Seconds of a gradient, with all parts."""
        return sum(part.seconds for part in self.parts)

    def __str__(self) -> str:
        rows = [
            f"{p.name:<16}{duration(p.seconds):>10}{p.seconds / self.total:>7.0%}  {_WHAT[p.name]}"
            for p in self.parts
        ]
        return "\n".join([*rows, f"{'together':<16}{duration(self.total):>10}"])

    def __repr__(self) -> str:
        return f"<Profile: {duration(self.total)} for a gradient>"

    def plot(self, ax: Any = None) -> Any:
        """Draw a bar for each part.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Default: new ones.

        Returns
        -------
        matplotlib.axes.Axes
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(7, 2.2), constrained_layout=True)
        names = [part.name for part in self.parts][::-1]
        bars = ax.barh(names, [1e6 * part.seconds for part in self.parts][::-1], color="#27548a")
        for bar, part in zip(bars, self.parts[::-1]):
            text = f" {duration(part.seconds)}, {part.seconds / self.total:.0%}"
            ax.text(bar.get_width(), bar.get_y() + bar.get_height() / 2, text, va="center")
        ax.margins(x=0.25)
        ax.set_xlabel("microseconds for a gradient in pm.sample")
        ax.spines[["top", "right"]].set_visible(False)
        return ax


def duration(seconds: float) -> str:
    """Return a time in a unit that suits it.

    Examples
    --------
    >>> duration(1.23e-5), duration(0.0456), duration(7.0)
    ('12.3 us', '45.6 ms', '7 s')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


# -- measuring --------------------------------------------------------------------------------


def by_turns(timers: Sequence[Timer], seconds: float) -> List[float]:
    """Return a time of each, measured in turns: a slow spell of the machine meets all of them."""
    share = seconds / (_TURNS * len(timers))
    for _ in range(_TURNS):
        times = [timer(share) for timer in timers]
    return times


def bare(applied: Sequence[Applied]) -> Timer:
    """Return a timer of the TensorFlow calls of one gradient."""
    return _of_programs(applied, lambda function: function.bare)


def bridged(applied: Sequence[Applied]) -> Timer:
    """Return a timer of the TensorFlow calls of one gradient, and of all that is around them."""
    return _of_programs(applied, lambda function: function)


def _of_programs(applied: Sequence[Applied], call_of: Callable[[Any], Any]) -> Timer:
    timers = [_of_program(program, values, free, call_of) for _, program, values, free in applied]

    def timer(seconds: float) -> float:
        return sum(each(seconds / len(timers)) for each in timers)

    return timer


def _of_program(
    program: Program,
    values: Sequence[np.ndarray],
    free: Sequence[int],
    call_of: Callable[[Any], Any],
) -> Timer:
    both, cotangents = program, []
    if program.pullback is not None:
        both = value_and_vjp(program)
        specs = both.inputs[len(program.inputs) :]
        results = functions.function(program)(values)
        floating = [y for y, spec in zip(results, program.outputs) if spec.is_floating]
        cotangents = [np.ones_like(y, spec.dtype) for y, spec in zip(floating, specs)]
    call = call_of(functions.function(both))
    varied = [i for i in free if program.inputs[i].is_floating]

    def arguments() -> List[np.ndarray]:
        # Of TensorFlow's dtypes already, and no two the same.
        moved = list(values)
        for i in varied:
            moved[i] = np.asarray(_jittered(values[i]), values[i].dtype)
        return [*moved, *cotangents]

    return calls(call, lambda: (arguments(),))


def _jittered(x: np.ndarray) -> np.ndarray:
    eps = max(_JITTER, 1e3 * float(np.finfo(x.dtype).eps))
    return x + eps * _random.uniform(-1.0, 1.0, x.shape) * np.maximum(np.abs(x), 1.0)


def theano(model: pm.Model) -> Timer:
    """Return a timer of log density and gradient of a model, as PyMC3 computes them."""
    function = model.logp_dlogp_function()
    function.set_extra_values({})
    start = function.dict_to_array(model.test_point)
    return calls(function, lambda: (_jittered(start),))


def nuts(model: pm.Model) -> Timer:
    """Return a timer of one leapfrog step of PyMC3's NUTS, gradient included."""
    step, point = pm.NUTS(model=model), model.test_point
    times: List[float] = []

    def one() -> float:
        nonlocal point
        begin = time.perf_counter()
        point, stats = step.step(point)
        return (time.perf_counter() - begin) / max(int(stats[0]["tree_size"]), 1)

    def timer(seconds: float) -> float:
        state = np.random.get_state()
        try:
            np.random.seed(len(times))
            _spend(seconds, lambda: times.append(one()))
        finally:
            np.random.set_state(state)
        # Without the first trees: their step size does not fit yet. And the lower quartile,
        # because other programs on the machine can only add to the time.
        return float(np.percentile(times[len(times) // 2 :], 25))

    return timer


def calls(call: Callable[..., Any], arguments: Callable[[], Any]) -> Timer:
    """Return a timer of a call, with other arguments each time."""
    call(*arguments())
    times: List[float] = []

    def one() -> None:
        given = arguments()
        begin = time.perf_counter()
        call(*given)
        times.append(time.perf_counter() - begin)

    def timer(seconds: float) -> float:
        _spend(seconds, one)
        # Other programs on the machine can only add to the time.
        return min(times)

    return timer


def _spend(seconds: float, one: Callable[[], None]) -> None:
    end = time.perf_counter() + seconds
    one()
    while time.perf_counter() < end:
        one()


class Compiled:
    """Value and gradient of a model under XLA, as the sampler has them.

    Parameters
    ----------
    model : pymc3.Model
        With continuous free variables.
    """

    def __init__(self, model: pm.Model) -> None:
        unconstrained = UnconstrainedModel(model)
        self._data = [tf.constant(array) for array in unconstrained.data]
        self._start = unconstrained.vector(model.test_point)

        def evaluate(position: tf.Tensor, data: Sequence[tf.Tensor]) -> Tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(position)
                value = unconstrained.log_density(position, *data)
            return value, tape.gradient(value, position)

        @tf.function(autograph=False, jit_compile=True)
        def repeat(
            position: tf.Tensor, number: tf.Tensor, *data: tf.Tensor
        ) -> Tuple[tf.Tensor, tf.Tensor]:
            def again(
                i: tf.Tensor, position: tf.Tensor, value: tf.Tensor, gradient: tf.Tensor
            ) -> Tuple[tf.Tensor, ...]:
                # From the last gradient on, so that no evaluation can be left out.
                moved = position + 1e-12 * tf.math.tanh(gradient)
                return (i + 1, moved, *evaluate(moved, data))

            zeros = tf.constant(0.0, tf.float64), tf.zeros_like(position)
            state = (tf.constant(0), position, *zeros)
            found = tf.while_loop(lambda i, *rest: i < number, again, state)
            return found[2], found[3]

        self._repeat = repeat
        self._number, self._best = 10, np.inf

    def __call__(self) -> Dict[str, Any]:
        """Compile, and return value and gradient at the test point.

        Raises
        ------
        tf.errors.OpError
            If XLA cannot compile it.
        """
        value, gradient = self._run(1)
        return {"value": float(value), "gradient": gradient.numpy()}

    def timer(self, seconds: float) -> float:
        """Return the time of an evaluation inside of a compiled loop, as a `Timer`."""
        while True:
            begin = time.perf_counter()
            self._run(self._number)[0].numpy()
            spent = time.perf_counter() - begin
            self._best = min(self._best, spent / self._number)
            if spent > seconds / 2 or self._number > 10**6:
                return self._best
            self._number *= 3

    def _run(self, number: int) -> Any:
        return self._repeat(tf.constant(self._start), tf.constant(number), *self._data)
