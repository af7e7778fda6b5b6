"""The No-U-Turn sampler of TensorFlow Probability, compiled by XLA together with a log density.

One program serves warmup and sampling: what differs between them are numbers that it is given. It
makes some draws from where a chain stands and hands back where the chain stands then. Who calls it,
how often and with which numbers is in ``chains``; nothing here knows of PyMC3.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from pymc3_tf.host.islands import Island
from pymc3_tf.nuts import density, momenta, randomness, trees

# Size of what one call can return, in numbers: large enough for calls to be rare.
_BUFFER_NUMBERS = 1 << 17
_BUFFER_DRAWS = 1 << 12

# What a draw has besides its position, in the order of the columns that the program returns.
COLUMNS = ("lp", "energy", "acceptance_rate", "step_size", "n_steps", "diverging")


def tensorflow_probability() -> Any:
    """Import TensorFlow Probability, which is an extra.

    Raises
    ------
    ImportError
        If it is not installed, or not the one for the installed TensorFlow.
    """
    try:
        import tensorflow_probability
    except ImportError as error:
        raise ImportError(
            f"sampling with XLA needs the TensorFlow Probability for TensorFlow {tf.__version__}. "
            f'In the folder of pymc3_tf, run: python -m pip install ".[tfp]" ({error})'
        ) from error
    return tensorflow_probability


class State(NamedTuple):
    """Where a chain (or a batch of chains, with a leading axis) stands.

    Parameters
    ----------
    position : array of float64, shape (n,)
    lp : array of float64, shape ()
        Log density at the position.
    gradient : array of float64, shape (n,)
        Its gradient.
    averaging : array of float64, shape (4,)
        What dual averaging remembers: the step size, the sum of the differences between target
        and actual acceptance, the averaged log step size, and the value towards which the log step
        size is shrunk.
    """

    position: Any
    lp: Any
    gradient: Any
    averaging: Any


class Control(NamedTuple):
    """What one call is to do.

    Parameters
    ----------
    first : int
        Number of the first draw, counted from the start of the chain; together with the seed it
        decides all random numbers.
    number : int
        How many draws to make at most.
    leapfrogs : int
        How many leapfrog steps to begin the last draw within.
    step : int
        Draws that were made since the adaptation of the step size started.
    adaptation : int
        Draws of this adaptation in all; zero for a step size that stays as it is.
    depth : int
        How often a trajectory is doubled at most; no more than the sampler was made for.
    """

    first: int
    number: int
    leapfrogs: int
    step: int
    adaptation: int
    depth: int


class Block(NamedTuple):
    """What one call returns: draws, and the state after the last of them.

    Parameters
    ----------
    draws : array of float64, shape (draws, n + 6), or (draws, chains, n + 6)
        The positions, followed by ``COLUMNS``.
    gradients : array of float64, shape (draws, n), or (draws, chains, n)
        The gradients of the log density at these positions.
    state : State
    """

    draws: np.ndarray
    gradients: np.ndarray
    state: State


class CompiledSampler:
    """A log density and the sampler of it, ready to be called from any number of threads.

    Parameters
    ----------
    logp : callable
        Function of TensorFlow ops: ``logp(position, *data)`` takes a float64 tensor of shape (n,)
        and returns a scalar.
    size : int
        The number n.
    data : sequence of tf.TensorSpec
        What else ``logp`` takes.
    chains : int
        Make a program of a batch of so many chains; zero for a program of one chain at a time.
        Where an op has no form for a batch, such as a loop, chains are evaluated one by one.
    max_treedepth : int
        A draw takes less than ``2 ** max_treedepth`` leapfrog steps.
    metric : {"diagonal", "low_rank", "dense"}
        The form of the metric.
    jit_compile : bool
        Compile with XLA.

    Attributes
    ----------
    islands : list of Island
        What XLA cannot compile, and calls the host for.
    in_draws, value_and_gradient : callable
        Add the log density and its gradient to a graph, as the program does and as TensorFlow does.
    """

    def __init__(
        self,
        logp: Callable[..., tf.Tensor],
        size: int,
        data: Sequence[tf.TensorSpec] = (),
        *,
        chains: int = 0,
        max_treedepth: int = 10,
        metric: str = "diagonal",
        jit_compile: bool = True,
    ) -> None:
        self.size = size
        self.batch = [chains] if chains else []
        self.metric = metric
        self.max_treedepth = max_treedepth
        self.rows = _BUFFER_NUMBERS // (max(chains, 1) * (2 * size + len(COLUMNS)))
        self.rows = int(np.clip(self.rows, 8, _BUFFER_DRAWS))
        vector = tf.TensorSpec([*self.batch, size], tf.float64)
        scalar = tf.TensorSpec(self.batch, tf.float64)
        averaging = tf.TensorSpec([*self.batch, 4], tf.float64)
        factor = tf.TensorSpec([*self.batch, *momenta.factor_shape(metric, size)], tf.float64)
        self._density = self._traced(logp, self.batch, data)
        self.value_and_gradient, _ = density.builder(*self._density)
        # Never by XLA: TensorFlow's own ops say what fails, and take no time to compile.
        self.evaluate_function = tf.function(
            self.value_and_gradient, autograph=False
        ).get_concrete_function(vector, *data)
        self._evaluate_one = (
            tf.function(functools.partial(density.value_and_gradient, logp, False), autograph=False)
            if chains
            else self.evaluate_function
        )
        self._signature = [
            *(vector, scalar, vector, averaging, factor),
            tf.TensorSpec([], tf.float64),
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([len(Control._fields)], tf.int32),
            *data,
        ]
        self._jit_compile = jit_compile
        self._lock = threading.Lock()
        self._is_ready = False
        self._one: Any = functools.partial(self._traced, logp, [], data)
        self._trace()

    def _traced(self, logp: Any, batch: List[int], data: Sequence[tf.TensorSpec]) -> Any:
        """Return the function of the log density and its gradient, and its graph without calls."""
        function = tf.function(
            functools.partial(density.value_and_gradient, logp, bool(batch)), autograph=False
        ).get_concrete_function(tf.TensorSpec([*batch, self.size], tf.float64), *data)
        return function, density.inlined(function)

    def _trace(self, whole: bool = False) -> None:
        self.in_draws = self.value_and_gradient
        self.islands: List[Island] = []
        if self._jit_compile:
            self.in_draws, self.islands, self._divided = density.for_xla(
                self._density, self._one if self.batch else None, whole
            )
        self.draw_function = tf.function(
            self._make_draws, autograph=False, jit_compile=self._jit_compile
        ).get_concrete_function(*self._signature)

    def prepare(self, position: np.ndarray, data: Sequence[Any]) -> None:
        """Compile what makes draws, once, and say in the log what XLA cannot compile.

        Parameters
        ----------
        position : array, shape (n,)
            Where the log density can be computed.
        data : sequence of tf.Tensor

        Raises
        ------
        tf.errors.OpError
            If XLA cannot compile it.
        """
        with self._lock:
            if self._is_ready:
                return
            # No draws are made.
            none = [np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in self._signature]
            arguments = [*map(tf.constant, none[: len(none) - len(data)]), *data]
            try:
                self.draw_function(*arguments)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
                # XLA has no form for a loop, say: TensorFlow computes the whole density then.
                self._trace(whole=True)
                if not self.islands:
                    raise
                self.draw_function(*arguments)
            if self.islands:
                density.report(self.islands, self._divided, [position, *data])
            self._is_ready = True

    def evaluate(self, position: np.ndarray, data: Sequence[Any]) -> Tuple[np.ndarray, np.ndarray]:
        """Return the log density and its gradient, of a batch if the program is one of a batch.

        Raises
        ------
        tf.errors.OpError
            If an op fails. XLA, which is not used here, would go on with some number.
        """
        try:
            return tuple(y.numpy() for y in self.evaluate_function(tf.constant(position), *data))
        except tf.errors.OpError:
            if not self.batch:
                raise
        # Some loops fail in a batch only.
        *found, errors = self._evaluate_rows(position, data)
        for error in filter(None, errors):
            raise error
        return tuple(found)

    def evaluate_each(
        self, positions: np.ndarray, data: Sequence[Any]
    ) -> Tuple[np.ndarray, np.ndarray, List[Optional[tf.errors.OpError]]]:
        """Return the log density and its gradient at positions, some of which may fail.

        Parameters
        ----------
        positions : array, shape (rows, n)
            Of a program of a batch: at most as many rows as that has.
        data : sequence of tf.Tensor

        Returns
        -------
        lp : array, shape (rows,)
            NaN where TensorFlow failed.
        gradient : array, shape (rows, n)
        errors : list
            The error of each row, or None.
        """
        rows = len(positions)
        if self.batch:
            try:
                filled = np.resize(positions, [*self.batch, self.size])
                lp, gradient = self.evaluate(filled, data)
                return lp[:rows], gradient[:rows], [None] * rows
            except tf.errors.OpError:
                pass  # which of them it was is found one by one
        return self._evaluate_rows(positions, data)

    def _evaluate_rows(self, positions: np.ndarray, data: Sequence[Any]) -> Any:
        rows = len(positions)
        values = np.full(rows, np.nan)
        gradients = np.full((rows, self.size), np.nan)
        errors: List[Optional[tf.errors.OpError]] = [None] * rows
        for i, position in enumerate(positions):
            try:
                lp, gradient = self._evaluate_one(tf.constant(position), *data)
                values[i], gradients[i] = lp.numpy(), gradient.numpy()
            except tf.errors.OpError as error:
                errors[i] = error
        return values, gradients, errors

    def draw(
        self,
        state: State,
        factor: Any,
        target_accept: float,
        seed: Any,
        control: Control,
        data: Sequence[Any],
    ) -> Block:
        """Make draws.

        Parameters
        ----------
        state : State
        factor : array of float64
            The metric, in one of the forms of ``momenta``.
        target_accept : float
        seed : array of int32, shape (2,)
        control : Control
        data : sequence of tf.Tensor
        """
        arguments = *state, factor, target_accept, seed, control
        # TensorFlow 2.12 does not do this itself.
        tensors = [tf.convert_to_tensor(x, y.dtype) for x, y in zip(arguments, self._signature)]
        draws, gradients, number, *after = self.draw_function(*tensors, *data)
        # A copy of what was drawn; with a view of it the whole buffer would stay.
        made = slice(int(number))
        return Block(
            np.asarray(draws)[made].copy(), np.asarray(gradients)[made].copy(), State(*after)
        )

    def _log_density(self, data: Sequence[tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        @tf.custom_gradient
        def logp(position: tf.Tensor) -> Any:
            value, gradient = self.in_draws(position, *data)
            return value, lambda upstream: upstream[..., None] * gradient

        return logp

    def _kernel(
        self, logp: Any, step_size: Any, factor: Any, target_accept: Any, plan: Control
    ) -> Any:
        tfp = tensorflow_probability()
        return tfp.mcmc.DualAveragingStepSizeAdaptation(
            trees.sampler_class(tfp.experimental.mcmc.PreconditionedNoUTurnSampler)(
                logp,
                step_size,
                max_tree_depth=self.max_treedepth,
                depth=plan.depth,
                momentum_distribution=momenta.METRICS[self.metric](factor),
            ),
            num_adaptation_steps=plan.adaptation,
            target_accept_prob=target_accept,
        )

    def _make_draws(
        self,
        position: tf.Tensor,
        lp: tf.Tensor,
        gradient: tf.Tensor,
        averaging: tf.Tensor,
        factor: tf.Tensor,
        target_accept: tf.Tensor,
        seed: tf.Tensor,
        control: tf.Tensor,
        *data: tf.Tensor,
    ) -> Any:
        """Make a block of draws.

        Long, because the steps of the loop share the tensors before it.
        """
        plan = Control(*tf.unstack(control))
        step_size, log_average, log_shrinkage_target = (averaging[..., i, None] for i in (0, 2, 3))
        arguments = step_size, factor, target_accept, plan
        # The results of a density that costs nothing have the right form; their values are ours.
        results = self._kernel(lambda x: tf.reduce_sum(x, -1), *arguments).bootstrap_results(
            position
        )
        results = results._replace(log_shrinkage_target=[log_shrinkage_target])
        kernel = self._kernel(self._log_density(data), *arguments)
        width = self.size + len(COLUMNS)

        def more(i: Any, leapfrogs: Any, *_: Any) -> Any:
            return (i < plan.number) & (leapfrogs < plan.leapfrogs)

        def draw(
            i: Any,
            leapfrogs: Any,
            draws: Any,
            gradients: Any,
            position: Any,
            lp: Any,
            gradient: Any,
            step_size: Any,
            error_sum: Any,
            log_average: Any,
        ) -> Any:
            # Only what changes is carried by the loop.
            before = results._replace(
                inner_results=results.inner_results._replace(
                    target_log_prob=lp, grads_target_log_prob=[gradient]
                ),
                step=plan.step + i,
                new_step_size=step_size,
                error_sum=[error_sum],
                log_averaging_step=[log_average],
            )
            draw_seed = randomness.fold_in(randomness.seed_of(seed), plan.first + i)
            position, after = kernel.one_step(position, before, seed=draw_seed)
            made = after.inner_results
            columns: Dict[str, Any] = {
                "lp": made.target_log_prob,
                "energy": -made.energy,
                "acceptance_rate": tf.exp(made.log_accept_ratio),
                "step_size": tf.squeeze(made.step_size, -1),
                "n_steps": made.leapfrogs_taken,
                "diverging": made.has_divergence,
            }
            stats = [tf.cast(columns[name], tf.float64) for name in COLUMNS]
            row = tf.concat([position, tf.stack(stats, axis=-1)], axis=-1)
            return (
                i + 1,
                leapfrogs + tf.reduce_max(made.leapfrogs_taken),
                draws.write(i, row),
                gradients.write(i, made.grads_target_log_prob[0]),
                position,
                made.target_log_prob,
                made.grads_target_log_prob[0],
                after.new_step_size,
                after.error_sum[0],
                after.log_averaging_step[0],
            )

        draws, gradients = (
            tf.TensorArray(tf.float64, self.rows, element_shape=[*self.batch, n])
            for n in (width, self.size)
        )
        start = (
            *(0, 0, draws, gradients, position, lp, gradient),
            *(step_size, averaging[..., 1], log_average),
        )
        number, _, draws, gradients, *state, step_size, error_sum, log_average = tf.while_loop(
            more, draw, start
        )
        averaging = tf.concat(
            [step_size, error_sum[..., None], log_average, log_shrinkage_target], axis=-1
        )
        return draws.stack(), gradients.stack(), number, *state, averaging
