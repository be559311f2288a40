"""The commands. Ctrl-C while one of them still imports libraries, or before its own care begins, is no traceback."""

import sys
from types import TracebackType


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)  # Python then ends itself by SIGINT, which shells show as 130
    else:
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _hook
