"""The mesh's BPF programs: an enrolled pod's TCP connections go to its node's ztunnel, which learns where they were meant to go.

    app: connect(service)                                     ztunnel: accept(), getsockopt(SO_ORIGINAL_DST)
      connect.py    dials ztunnel instead, keeps the original      getsockopt.py   answers with the original
      sockops.py    passes the original on, pairs the two sockets
      redirect.py   carries the bytes between the two without the TCP stack
"""

from programs.connect import connect4
from programs.getsockopt import getsockopt
from programs.redirect import redirect
from programs.sockops import sockops

__all__ = ["connect4", "getsockopt", "redirect", "sockops"]
