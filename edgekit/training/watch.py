"""Callbacks that look on: progress for the user, a log for TensorBoard."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from edgekit.base.extras import require
from edgekit.base.progress import Progress

_REPORT_EVERY_S = 0.2
_SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")


def reporter(progress: Progress, epochs: int, steps: int) -> Any:
    """A Keras callback that reports each epoch, and from time to time within long ones."""
    keras = require("keras", purpose="to train models")
    epoch_now, text_now, reported_at = 0, "", time.monotonic()

    def begin_epoch(epoch: int, logs: Any) -> None:  # noqa: ARG001
        nonlocal epoch_now
        epoch_now = epoch

    def begin_batch(step: int, logs: Any) -> None:  # noqa: ARG001
        nonlocal reported_at
        if time.monotonic() - reported_at >= _REPORT_EVERY_S:
            reported_at = time.monotonic()
            progress(f"epoch {epoch_now + 1}/{epochs}{text_now}", epoch_now + step / steps, epochs)

    def end_epoch(epoch: int, logs: dict[str, float]) -> None:
        nonlocal text_now, reported_at
        shown = ", ".join(f"{key} {logs[key]:.4g}" for key in _SHOWN if key in logs)
        text_now, reported_at = f": {shown}", time.monotonic()
        progress(f"epoch {epoch + 1}/{epochs}{text_now}", epoch + 1, epochs)

    # Not at the end of a batch: Keras would wait for each batch's metrics to hand them over.
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=begin_epoch, on_epoch_end=end_epoch, on_train_batch_begin=begin_batch
    )


def tensorboard_log(directory: Path) -> Any:
    """A Keras callback that writes each epoch's metrics where `tensorboard --logdir` reads them.

    An event file is a TFRecord file of `Event` messages, so the tensorboard package is not needed.
    """
    keras = require("keras", purpose="to train models")
    tf = require("tensorflow", purpose="to train models")
    events = tf.compat.v1
    directory.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
    writer = tf.io.TFRecordWriter(str(directory / name))
    start = events.Event(wall_time=time.time(), file_version="brain.Event:2")
    writer.write(start.SerializeToString())

    def write(epoch: int, logs: dict[str, float]) -> None:
        values = [events.Summary.Value(tag=key, simple_value=logs[key]) for key in logs]
        event = events.Event(
            wall_time=time.time(), step=epoch, summary=events.Summary(value=values)
        )
        writer.write(event.SerializeToString())
        writer.flush()

    return keras.callbacks.LambdaCallback(
        on_epoch_end=write,
        on_train_end=lambda logs: writer.close(),  # noqa: ARG005
    )
