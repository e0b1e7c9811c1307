"""The passes by name, and their running one after the other."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.base.errors import EdgekitError, InputError, PreconditionError, ToolError
from edgekit.base.registry import Registry
from edgekit.compress.contract import Pass, PassContext, PassResult, check_order
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import PassSpec
from edgekit.schema.yamlfile import Location, YamlSource, validate_data

if TYPE_CHECKING:
    import keras

PASSES: Registry[type[Pass[Any]]] = Registry(
    "pass",
    {
        "adaround": "edgekit.compress.adaptive_rounding:AdaRound",
        "cluster": "edgekit.compress.clustering:Cluster",
        "correct_bias": "edgekit.compress.bias_correction:CorrectBias",
        "distill": "edgekit.compress.distillation:Distill",
        "equalize": "edgekit.compress.equalization:Equalize",
        "factorize": "edgekit.compress.factorization:Factorize",
        "fallback": "edgekit.compress.accuracy_control:Fallback",
        "fold": "edgekit.compress.folding_pass:Fold",
        "mixed_precision": "edgekit.compress.assignment:MixedPrecision",
        "prune": "edgekit.compress.pruning:Prune",
        "qat": "edgekit.compress.quantization_aware:Qat",
        "quantize": "edgekit.compress.quantization:Quantize",
        "shrink": "edgekit.compress.shrinking:Shrink",
    },
    group="passes",
)


_NUMBER = re.compile(r"[-+]?[\d.]+([eE][-+]?\d+)?")


def prepare_passes(
    specs: Sequence[PassSpec],
    source: YamlSource | None = None,
    *,
    first: int = 0,
    plan: QuantizationPlan | None = None,
) -> list[Pass[Any]]:
    """The passes with their arguments checked, and their order; needs no model and no Keras.

    Args:
        specs: the passes in their order.
        source: the recipe that they stand in, under `compress`, to name the place of a fault.
        first: position under `compress` of the first of `specs`.
        plan: the quantization that earlier passes have decided.

    Raises:
        InputError: an unknown pass or argument, or a value that does not fit.
        PreconditionError: a pass would change weights after their quantization was planned.
    """
    passes: list[Pass[Any]] = []
    for position, spec in enumerate(specs, start=first):
        text = source or YamlSource(spec.name, spec.args)
        place: Location = ("compress", position) if source else ()
        kind = PASSES.get(spec.name, where=text.where(place))
        args = validate_data(kind.Args, spec.args, text, at=_place_of_args(text, place, spec))
        made = kind(args)
        try:
            check_order(kind, plan)
        except PreconditionError as error:
            raise PreconditionError(
                error.message, where=text.where(place), hint=error.hint
            ) from None
        plan = made.plans() or plan
        passes.append(made)
    return passes


def run_passes(
    model: keras.Model,
    specs: Sequence[PassSpec],
    context: PassContext,
    source: YamlSource | None = None,
    *,
    first: int = 0,
) -> tuple[keras.Model, list[dict[str, Any]], QuantizationPlan | None]:
    """Runs passes one after the other; all arguments are checked before the first one starts.

    Args:
        model: a functional model; it is not changed.
        specs: the passes in their order.
        context: what they work with.
        source: the recipe that they stand in.
        first: position under `compress` of the first of `specs`.

    Returns:
        The final model, the report of each pass, and the plan for the exporter, if any.

    Raises:
        EdgekitError: of the pass that failed; its hint says which passes had run before.
    """
    passes = prepare_passes(specs, source, first=first, plan=context.plan)
    reports = []
    for position, one in enumerate(passes, start=first):
        where = source.where(("compress", position)) if source else f"pass {one.name}"
        result = _run(one, model, context, where)
        model, context = result.model, context.after(one.name, result.plan)
        reports.append({"pass": one.name, "modified": result.modified, **result.report})
    return model, reports, context.plan


def _run(one: Pass[Any], model: keras.Model, context: PassContext, where: str) -> PassResult:
    before = f"passes that ran before: {', '.join(context.ran)}" if context.ran else None
    try:
        return one(model, context)
    except EdgekitError as error:
        hint = "\n  ".join(line for line in (error.hint, before) if line)
        place = f"{where}: {error.where}" if error.where else where
        raise type(error)(f"{one.name}: {error.message}", where=place, hint=hint) from error
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ToolError(f"{one.name} failed: {reason}", where=where, hint=before) from error


def _place_of_args(source: YamlSource, place: Location, spec: PassSpec) -> Location:
    """`- prune: {...}` has its arguments under its name, the long form under `args`."""
    short = tuple(str(part) for part in (*place, spec.name))
    known = {*source.positions, *(words[: len(short)] for words in source.overrides)}
    if not place:
        return ()
    return (*place, spec.name if short in known else "args")


def parse_pass(text: str) -> PassSpec:
    """Reads `prune(sparsity=0.5)` or `prune`: a name with keyword arguments that are literals.

    Words need no quotes: `quantize(precision=int8)`.

    Raises:
        InputError: it is written in another way; nothing of it is executed.
    """
    where = f"--pass {text}"
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return PassSpec(name=node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            arguments = {
                str(k.arg): ast.literal_eval(_Quoted().visit(k.value))
                for k in node.keywords
                if k.arg
            }
            if len(arguments) == len(node.keywords):
                return PassSpec(name=node.func.id, args=arguments)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        pass  # the same advice helps in each case
    raise InputError(
        "is not a pass with its arguments",
        where=where,
        hint=_unquoted(text)
        or "write NAME or NAME(argument=value, ...), such as prune(sparsity=0.5)",
    )


def _unquoted(text: str) -> str | None:
    """Advice to quote the first word that is neither quoted, nor an identifier, nor a number."""
    arguments = re.sub(r"'[^']*'|\"[^\"]*\"", "", text.partition("(")[2])
    for word in re.findall(r"[^\s,:=()\[\]{}]+", arguments):
        if re.search(r"[^\W\d]", word) and not word.isidentifier() and not _NUMBER.fullmatch(word):
            return f"quote words with other characters than letters, digits and _: '{word}'"
    return None


class _Quoted(ast.NodeTransformer):
    """Words as text."""

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.Constant(node.id)
