"""The mesh's BPF programs: TCP connections of enrolled pods, and the host's to them, go to their node's ztunnel.

app: connect(service)                                     ztunnel: accept(), getsockopt(SO_ORIGINAL_DST)
  connect.py    dials ztunnel instead, keeps the original      getsockopt.py   answers with the original
  getpeername.py  shows the app what it dialled
  sockops.py    passes the original on, pairs the two sockets
  redirect.py   carries the bytes between the two without the TCP stack
  dns.py        the same for DNS by UDP, for pods that ask for it
  inbound.py    at network devices: what arrives for enrolled pods goes to ztunnel, too
  trace.py      shows what the others do, while somebody looks; it is none of PROGRAMS
  processes.py  tells the agent of processes that come and go; it is none of them either
"""

from typing import Any

from programs.connect import connect4 as _connect4
from programs.connect import connect6 as _connect6
from programs.dns import recvmsg4 as _recvmsg4
from programs.dns import recvmsg6 as _recvmsg6
from programs.dns import sendmsg4 as _sendmsg4
from programs.dns import sendmsg6 as _sendmsg6
from programs.getpeername import getpeername4 as _getpeername4
from programs.getpeername import getpeername6 as _getpeername6
from programs.getsockopt import getsockopt as _getsockopt
from programs.inbound import at_ztunnel as _at_ztunnel
from programs.inbound import from_pod as _from_pod
from programs.inbound import from_ztunnel as _from_ztunnel
from programs.inbound import to_pod as _to_pod
from programs.inbound import to_ztunnel as _to_ztunnel
from programs.redirect import redirect as _redirect
from programs.sockops import sockops as _sockops
from pybpfasm import Program

PROGRAMS: tuple[Program[Any], ...] = (
    _redirect,
    _getsockopt,
    _getpeername6,
    _getpeername4,
    _sockops,
    _recvmsg6,
    _recvmsg4,
    _sendmsg6,
    _sendmsg4,
    _connect6,
    _connect4,
    _at_ztunnel,
    _from_ztunnel,
    _to_ztunnel,
    _from_pod,
    _to_pod,
)

__all__ = ["PROGRAMS"]
