"""The commands: what holds for all of them before they import anything large.

Ctrl-C while a command still imports libraries, or before its own care begins, is no traceback. Threads of OpenMP sleep
while they wait for each other: spinning they take the processors of everything beside them, and a training step of a
tiny model becomes ten times slower on a busy machine.
"""

import os
import sys
from types import TracebackType

for _name, _value in {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}.items():
    os.environ.setdefault(_name, _value)  # read when torch is imported; inherited by processes of a command


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)  # Python then ends itself by SIGINT, which shells show as 130
    else:
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _hook
