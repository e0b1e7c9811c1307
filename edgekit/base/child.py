"""A child process that runs functions under a limit of time and memory.

Converters can crash or hang; in a child they take nothing else down. One child serves many calls,
so that a heavy import is paid once; after a crash the next call starts a new one. Calls and
results are JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from edgekit.base.errors import ConversionError, EdgekitError, from_dict

_MEMORY_BYTES = 8 << 30
_POLL_S = 0.05
_PARENT_POLL_S = 0.5
_TAIL_CHARACTERS = 2000


class Worker:
    """Runs `module:function` calls in a child process.

    Args:
        timeout_s: limit of time for one call, in seconds.
        memory_bytes: limit of the child's resident memory, in bytes; by default 8 GiB, or half of
            the machine's memory if that is more.
        preload: modules that the child imports at its start, before the first call.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 600.0,
        memory_bytes: int | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes or max(_MEMORY_BYTES, psutil.virtual_memory().total // 2)
        self._preload = list(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts the child without waiting for it; `call` does so when it is needed."""
        if self._process is not None and self._process.poll() is None:
            return
        self._end_child()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the child
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
        self._process = subprocess.Popen(
            # -P: a module in the working directory must not take the place of an installed one.
            [sys.executable, "-P", "-m", "edgekit.base.child", *self._preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    def call(self, function: str, **arguments: Any) -> Any:
        """Calls `function` ("module:name") in the child and returns its JSON-able result.

        Raises:
            ConversionError: the child died, or passed its limit of time or memory.
            EdgekitError: whatever the function itself raised.
        """
        self.start()
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ConversionError("the child process could not be started", where=function)
        request = json.dumps({"function": function, "arguments": arguments})
        try:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._died(function) from None
        answer = json.loads(self._read_line(process, function))
        if "error" in answer:
            raise from_dict(answer["error"], ConversionError)
        return answer["result"]

    @property
    def scratch(self) -> Path:
        """A temporary folder for what calls leave to later calls; goes when the worker closes."""
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="edgekit-")
        return Path(self._scratch.name)

    def close(self) -> None:
        """Ends the child and removes the temporary folder."""
        self._end_child()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _end_child(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _read_line(self, process: subprocess.Popen[bytes], function: str) -> bytes:
        if process.stdout is None:
            raise ConversionError("the child process has no output", where=function)
        descriptor = process.stdout.fileno()
        deadline = time.monotonic() + self.timeout_s
        received = b""
        while not received.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], _POLL_S)
            if ready:
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    raise self._died(function)
                received += chunk
            elif time.monotonic() > deadline:
                self._end_child()
                raise ConversionError(
                    f"took longer than {self.timeout_s:g} s and was stopped", where=function
                )
            elif _resident_bytes(process.pid) > self.memory_bytes:
                self._end_child()
                raise ConversionError(
                    f"used more than {self.memory_bytes / 2**30:.3g} GiB of memory and was stopped",
                    where=function,
                )
        return received

    def _died(self, function: str) -> ConversionError:
        process, tail = self._process, ""
        code = process.wait() if process is not None else None
        if self._log is not None:
            self._log.seek(0)
            tail = self._log.read().decode(errors="replace")[-_TAIL_CHARACTERS:].strip()
        self._end_child()
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = signal.Signals(-code).name
        return ConversionError(f"the child process died ({how})", where=function, hint=tail or None)


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _answer(function: str, arguments: Mapping[str, Any]) -> str:
    try:
        module, _, name = function.partition(":")
        result = getattr(importlib.import_module(module), name)(**arguments)
        return json.dumps({"result": result})
    except EdgekitError as error:
        fault = error
    except Exception as error:  # noqa: BLE001 the child reports every failure to its parent
        fault = ConversionError(f"{type(error).__name__}: {error}", where=function)
    return json.dumps({"error": fault.to_dict()})


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a killed run leaves no converter behind."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def _serve() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # Libraries print to standard output: keep the real one for answers, send theirs to the log.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = _answer(request["function"], request["arguments"])
        answers.write(answer.encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
