"""Measures one model file in a process of its own: `python -m edgekit.devices.agent REQUEST`.

The request (the arguments of `edgekit.devices.timing.measure`) and the answer are JSON. It needs
NumPy, the runtime and edgekit's own runtimes, no more, so that it also runs on small boards.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Answers the request in the first argument on standard output."""
    python_ns = time.monotonic_ns()
    # The imports below belong to the cold start that is measured.
    from edgekit.base.errors import EdgekitError
    from edgekit.devices.timing import measure

    # Libraries print to standard output: keep the real one for the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        answer = measure(**json.loads(sys.argv[1]), python_ns=python_ns)
    except EdgekitError as error:
        answer = {"error": error.to_dict()}
    with answers:
        json.dump(answer, answers)


if __name__ == "__main__":
    main()
