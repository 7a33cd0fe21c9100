"""Ways in which the server can fail, each for a number of requests."""

import threading
from typing import Literal

import attrs

Kind = Literal["status", "error-event", "cut", "cut-mid-line", "silence", "end", "garbage", "hang", "trickle", "plain"]


@attrs.define
class Fault:
    """One fault. `verb` is list, watch, get or patch, `resource` pods or namespaces, "" any.

    status: the answer is an error of `code` (with `retry_after` seconds, if any). error-event: the watch is opened and
    gives an ERROR event of `code`. cut: the connection is reset, in a watch after its first event; cut-mid-line: within
    that event. silence: nothing more is sent, the connection stays. end: the watch ends at once in good order.
    garbage: what comes is not JSON. hang: no answer at all. trickle: a watch comes in pieces of a few bytes. plain: a
    watch comes without chunks, as through an old proxy.

    It is met by `times` requests, after the first `after` of them.
    """

    kind: Kind
    verb: str = ""
    resource: str = ""
    code: int = 500
    message: str = ""
    retry_after: int = 0
    times: int = 1
    after: int = 0


class Faults:
    """The faults that are in force."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Put one in force, behind those that are."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """From now on nothing fails."""
        with self._lock:
            self._faults.clear()

    def take(self, verb: str, resource: str) -> Fault | None:
        """The fault that this request meets, counted."""
        with self._lock:
            for fault in self._faults:
                if fault.verb in ("", verb) and fault.resource in ("", resource):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                    return fault
        return None
