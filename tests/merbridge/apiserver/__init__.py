"""A Kubernetes API server for tests: list, watch, get and merge patch of pods and namespaces over real HTTP.

It keeps objects in memory, with resourceVersions and a history that can be cut off, and can be told to fail in each way
that a real one fails. Debian's kubectl works against it for what the tests use.
"""

from apiserver.faults import Fault
from apiserver.server import ApiServer, Request
from apiserver.store import Store

__all__ = ["ApiServer", "Fault", "Request", "Store"]
