"""What one model computes on given input, in a file: for people who compare by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convkit.errors import ConvkitError, UsageError
from convkit.files.npz import ArrayFiles, read_arrays
from convkit.files.staging import Staging
from convkit.files.taken import refuse_taken
from convkit.oracles.devices import use_threads
from convkit.oracles.inputs import model_inputs
from convkit.oracles.opening import Opened, open_model
from convkit.verify.equivalence.outputs import Steps, outputs


def logits(
    source: Path,
    ids: Path,
    out: Path,
    *,
    layout: str | None = None,
    config: Path | None = None,
    format: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Run a model in float32, a stage at a time, and write its outputs to a ``.npz``.

    The model's tensors may correct the bias flags in its config, as they do in a conversion.

    Args:
        source: the checkpoint.
        ids: the model's inputs (:attr:`~convkit.oracles.oracle.Oracle.inputs`), a ``.npz`` of arrays by name.
        out: a float32 array for each head, under its name; see :class:`~.outputs.Columns`.
        layout: detected if it is None, like ``format``.
        config: the one beside the checkpoint if it is None.
        threads: of torch; one a processor if it is None.
        device: where torch runs the model.
        overwrite: replace ``out`` if it is there.
        steps: is told of each stage that begins.

    Returns:
        What was run: a JSON document.

    Raises:
        ConvkitError: the checkpoint can't be run, or the model doesn't take the inputs.
        UsageError: ``out`` is there, or there is no such device.
    """
    if out.is_dir():
        raise UsageError("is a folder", path=out, remedy="name a file")
    use_threads(threads)
    with open_model(source, layout=layout, config=config, format=format, lenient=True, device=device) as opened:
        if opened.oracle.problems:
            remedy = "the framework would refuse it; correct the config, or the checkpoint"
            raise ConvkitError(opened.oracle.problems[0], path=source, remedy=remedy)
        inputs = model_inputs(read_arrays(ids), opened.oracle.inputs, ids)
        with Staging(out, lambda: refuse_taken(out, overwrite=overwrite)) as staging:
            files, finite = ArrayFiles(staging.out), dict[str, bool]()
            for some in outputs(opened.oracle, opened.tensors, inputs, steps):
                shape = (*some.values.shape[:-1], some.width)
                files.put(some.name, shape, some.start, some.values.numpy())
                finite[some.name] = finite.get(some.name, True) and bool(some.values.isfinite().all())
            files.join(staging.out / out.name)
            staging.publish([out.name])
        given = {name: list(array.shape) for name, array in inputs.items()}
        return _document(opened, out, given, files.shapes, finite)


def _document(
    opened: Opened, out: Path, given: dict[str, Any], shapes: dict[str, tuple[int, ...]], finite: dict[str, bool]
) -> dict[str, Any]:
    return {
        "schema": "convkit.logits/1",
        "path": str(opened.path),
        "layout": opened.layout,
        "format": opened.format,
        "parameters": opened.parameters,
        "inputs": given,
        "out": str(out),
        "outputs": {name: {"shape": list(shape), "finite": finite[name]} for name, shape in shapes.items()},
        "notes": [*opened.corrections, *opened.oracle.notes],
    }
