from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.errors import InputError, PostconditionError, PreconditionError, ToolError
from edgekit.compress import contract, passes
from edgekit.compress.contract import Pass, PassContext, PassResult
from edgekit.schema.base import Document
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import PassSpec

pytestmark = pytest.mark.slow


class NoArgs(Document):
    pass


def model_of(width: int = 3) -> Any:
    import keras

    given = keras.Input((4,), name="x")
    return keras.Model(given, keras.layers.Dense(width, name="dense")(given))


def halved(model: Any, context: PassContext) -> PassResult:
    copy = contract.copy_of(model)
    copy.set_weights([weight / 2 for weight in copy.get_weights()])
    return PassResult(copy, True, {"layers": []})


def pass_of(work: Callable[[Any, PassContext], PassResult], **members: Any) -> type[Pass[Any]]:
    body = {"name": "own", "Args": NoArgs, "apply": lambda self, m, c: work(m, c), **members}
    return type("Own", (Pass,), body)


def run(kind: type[Pass[Any]], model: Any, tmp_path: Path) -> PassResult:
    return kind(NoArgs())(model, PassContext(directory=tmp_path))


def test_a_pass_gives_another_model_and_leaves_the_given_one(tmp_path: Path) -> None:
    model = model_of()
    before = model.get_weights()
    result = run(pass_of(halved), model, tmp_path)
    assert result.modified
    np.testing.assert_array_equal(result.model.get_weights()[0], before[0] / 2)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def in_place(model: Any, context: PassContext) -> PassResult:
    model.set_weights([weight / 2 + 1 for weight in model.get_weights()])
    return PassResult(model, False, {})


def frozen(model: Any, context: PassContext) -> PassResult:
    model.trainable = False
    return PassResult(model, False, {})


def nothing_said(model: Any, context: PassContext) -> PassResult:
    return PassResult(contract.copy_of(model), False, {})


def wider(model: Any, context: PassContext) -> PassResult:
    return PassResult(model_of(5), True, {})


def not_a_number(model: Any, context: PassContext) -> PassResult:
    copy = contract.copy_of(model)
    copy.set_weights([weight + np.nan for weight in copy.get_weights()])
    return PassResult(copy, True, {})


@pytest.mark.parametrize(
    ("work", "members", "words"),
    [
        (in_place, {}, "the given model was changed"),
        (frozen, {}, "the given model was changed"),
        (nothing_said, {}, "either unmodified, or another object"),
        (wider, {}, "the inputs and outputs changed"),
        (not_a_number, {}, "NaN or infinite"),
        (halved, {"changes_weights": False}, "by a pass that must not change it"),
    ],
)
def test_a_broken_promise_is_found_at_run_time(
    work: Any, members: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(PostconditionError, match=words) as caught:
        run(pass_of(work, **members), model_of(), tmp_path)
    assert caught.value.exit_code == 4


def test_what_a_pass_requires_is_checked_before_it_works(tmp_path: Path) -> None:
    def refuse(self: Any, model: Any, context: PassContext) -> None:
        raise PreconditionError("not with this model")

    worked: list[int] = []
    kind = pass_of(lambda model, context: worked.append(1), requires=refuse)  # type: ignore[arg-type,return-value]
    with pytest.raises(PreconditionError) as caught:
        run(kind, model_of(), tmp_path)
    assert worked == []
    assert caught.value.exit_code == 2


def test_a_model_without_fixed_inputs_is_refused(tmp_path: Path) -> None:
    import keras

    class Free(keras.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(PreconditionError, match="no fixed inputs"):
        run(pass_of(halved), Free(), tmp_path)


class Passes:
    """Stands for the registry."""

    def __init__(self, **kinds: type[Pass[Any]]) -> None:
        self.kinds = kinds

    def get(self, name: str, *, where: str | None = None) -> type[Pass[Any]]:
        return self.kinds[name]


def fails(model: Any, context: PassContext) -> PassResult:
    raise ValueError("shapes do not match\nand many more lines")


def refuses(model: Any, context: PassContext) -> PassResult:
    raise InputError("too small", where="dense", hint="take a larger one")


@pytest.mark.parametrize(
    ("work", "kind", "words"),
    [
        (fails, ToolError, "pass bad: bad failed: shapes do not match\n  passes that ran before: "),
        (refuses, InputError, "pass bad: dense: bad: too small\n  take a larger one\n  passes "),
    ],
)
def test_a_failure_says_which_passes_had_run(
    work: Any, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "PASSES", Passes(good=pass_of(halved, name="good"),
                                                 bad=pass_of(work, name="bad")))  # fmt: skip
    specs = [PassSpec(name=name) for name in ("good", "good", "bad", "good")]
    with pytest.raises(kind) as caught:
        passes.run_passes(model_of(), specs, PassContext(directory=tmp_path, ran=("earlier",)))
    assert str(caught.value).startswith(words)
    assert str(caught.value).endswith("earlier, good, good")


def test_passes_run_in_order_and_hand_on_model_and_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = QuantizationPlan(precision="int8")

    def look(model: Any, context: PassContext) -> PassResult:
        return PassResult(model, False, {"ran": context.ran}, plan)

    looking = pass_of(look, name="look", changes_weights=False)
    monkeypatch.setattr(passes, "PASSES", Passes(half=pass_of(halved, name="half"), look=looking))
    model = model_of()
    specs = [PassSpec(name=name) for name in ("half", "half", "look")]
    result, reports, found = passes.run_passes(model, specs, PassContext(directory=tmp_path))
    np.testing.assert_array_equal(result.get_weights()[0], model.get_weights()[0] / 4)
    assert [report["pass"] for report in reports] == ["half", "half", "look"]
    assert [report["modified"] for report in reports] == [True, True, False]
    assert reports[2]["ran"] == ("half", "half")
    assert found == plan


def test_a_pass_that_changes_weights_after_a_plan_is_refused(tmp_path: Path) -> None:
    context = PassContext(directory=tmp_path, plan=QuantizationPlan(precision="int8"))
    with pytest.raises(PreconditionError, match="changes weights after 'int8' quantization"):
        pass_of(halved)(NoArgs())(model_of(), context)
