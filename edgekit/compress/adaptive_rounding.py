"""`adaround`: learnt rounding of weights to int8 (Nagel et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.base.extras import require
from edgekit.compress.contract import PassContext, PassResult, run_alone
from edgekit.compress.grid import LARGEST, nearest, weight_steps
from edgekit.compress.reconstruction import (
    Problem,
    Reconstruct,
    ReconstructArgs,
    linear,
    linear_outputs,
)
from edgekit.data.dataset import Dataset

if TYPE_CHECKING:
    import keras

Values = NDArray[Any]

# The stretched sigmoid h(V) and the annealing of its regularizer, as in the paper.
_STRETCH = (-0.1, 1.1)
_WARM_UP = 0.2
_BETA = (20.0, 2.0)


class AdaRoundArgs(ReconstructArgs):
    """Arguments of `adaround`."""

    steps: int = Field(500, ge=1, description="of the optimizer for each layer")
    learning_rate: float = Field(0.05, gt=0, description="of Adam")
    batch_size: int = Field(32, ge=1, description="samples a step")
    regularization: float = Field(
        1.0, gt=0, description="weight of being up or down, against the error of nearest rounding"
    )


class AdaRound(Reconstruct[AdaRoundArgs]):
    """Learns for each weight whether it is rounded up or down."""

    name = "adaround"
    Args = AdaRoundArgs

    def rounded(self, problem: Problem, context: PassContext) -> Values:
        """The better of the learnt and the nearest rounding on the samples."""
        kernel = problem.layer.kernel.numpy()
        plain = nearest(problem.kind, kernel)
        steps = weight_steps(problem.kind, kernel)
        low = np.floor(kernel / steps)
        # Zeros stay, and so does the weight that sets the step of its channel.
        free = (kernel != 0) & (np.abs(plain / steps) < LARGEST - 0.5)
        if problem.clustered or not free.any():
            return plain
        fit = _Fit(problem, steps, low, free, np.round(kernel / steps))
        base = fit.error(plain)
        if base == 0:
            return plain
        up = fit.learn(kernel / steps - low, base, self.args, context.seed)
        learnt = np.where(free, (low + up) * steps, plain).astype(np.float32)
        return learnt if fit.error(learnt) < base else plain


class _Fit:
    def __init__(
        self, problem: Problem, steps: Values, low: Values, free: Values, codes: Values
    ) -> None:
        ops = require("keras", purpose="to compress models").ops
        self._problem = problem
        self._steps, self._low, self._free, self._codes = (
            ops.convert_to_tensor(np.broadcast_to(array, low.shape), dtype="float32")
            for array in (steps, low, free, codes)
        )
        self._x = ops.concatenate(problem.inputs)
        self._y = ops.concatenate([problem.activate(target) for target in problem.targets])

    def error(self, kernel: Values) -> float:
        """Mean squared error of the layer's results with a kernel, on all samples."""
        problem, own = self._problem, self._problem.layer.kernel.numpy()
        problem.layer.kernel.assign(kernel)
        found = linear_outputs(problem)
        problem.layer.kernel.assign(own)
        errors = [
            np.square(np.asarray(problem.activate(f)) - np.asarray(problem.activate(y))).ravel()
            for f, y in zip(found, problem.targets, strict=True)
        ]
        return float(np.concatenate(errors).mean(dtype=np.float64))

    def learn(self, rest: Values, base: float, args: AdaRoundArgs, seed: int) -> Values:
        """Which weights go up.

        Args:
            rest: how far each weight lies above the grid point below it, in steps.
            base: error of nearest rounding.
            args: of the pass.
            seed: of the choice of samples.
        """
        keras = require("keras", purpose="to compress models")
        tf = require("tensorflow", purpose="to compress models")
        ops, layer = keras.ops, self._problem.layer
        least, most = _STRETCH
        start = -np.log((most - least) / (np.clip(rest, 1e-3, 1 - 1e-3) - least) - 1)
        chosen = tf.Variable(start.astype(np.float32))
        optimizer = keras.optimizers.Adam(args.learning_rate)
        optimizer.build([chosen])
        count = ops.sum(self._free)

        def height() -> Any:
            return ops.clip(ops.sigmoid(chosen) * (most - least) + least, 0.0, 1.0)

        @tf.function  # type: ignore[untyped-decorator]
        def step(indices: Any, beta: Any, weight: Any) -> None:
            with tf.GradientTape() as tape:
                up = height()
                codes = self._free * (self._low + up) + (1 - self._free) * self._codes
                mapping = [(layer.kernel, codes * self._steps)]
                with keras.StatelessScope(state_mapping=mapping), linear(layer):
                    found = self._problem.activate(layer(tf.gather(self._x, indices)))
                error = ops.mean(ops.square(found - tf.gather(self._y, indices))) / base
                undecided = self._free * (1 - ops.abs(2 * up - 1) ** beta)
                loss = error + weight * ops.sum(undecided) / count
            gradient = tape.gradient(loss, chosen)
            optimizer.apply([gradient], [chosen])

        random = np.random.default_rng(seed)
        size = min(args.batch_size, int(self._x.shape[0]))
        for index in range(args.steps):
            done = (index / args.steps - _WARM_UP) / (1 - _WARM_UP)
            beta = _BETA[1] + (_BETA[0] - _BETA[1]) * (1 + np.cos(np.pi * max(done, 0))) / 2
            weight = args.regularization if done >= 0 else 0.0
            picked = random.choice(int(self._x.shape[0]), size, replace=False)
            step(
                ops.convert_to_tensor(picked.astype(np.int32)),
                ops.convert_to_tensor(np.float32(beta)),
                ops.convert_to_tensor(np.float32(weight)),
            )
        raised: Values = np.asarray(height()) >= 0.5
        return raised


def adaround(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Learns the rounding of a copy of `model`'s weights to int8 values, and corrects its biases.

    Converters that take the largest magnitude of a channel for 127 reproduce the values exactly.
    Normalization is folded first; zeros stay zero, and clustered weights are rounded to nearest.

    Args:
        model: a functional or Sequential model.
        dataset: its calibration split is needed.
        options: the fields of `AdaRoundArgs`, and those of `PassContext`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: there are no calibration samples, or `strict` finds untreated layers.
    """
    return run_alone(AdaRound, model, dataset, options)
