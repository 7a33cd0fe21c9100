"""Two programs that older kernels refuse: by them it is seen that the matrix tells the kernels apart.

test_declared.py declares their features as older than they are, and sees exactly the older kernels' columns turn red.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pybpfasm import isa
from pybpfasm.kernel import Descriptor, Program, features, sys
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, Command, ProgramType

LOOPBACK_INDEX = 1
RETURN_ONE = (isa.mov_imm(0, 1), isa.exit_program())


@pytest.mark.needs(features.STORE_IMMEDIATE_TO_CONTEXT)
def test_store_of_an_immediate_to_the_context() -> None:
    """One instruction where two would do for every kernel; the verifier refuses it before 6.4."""
    instructions = (isa.store_imm(4, 1, features.USER_PORT, 80), *RETURN_ONE)
    spec = ProgramSpec(
        "to_port_80", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, "bpf_sock_addr", instructions, {}
    )
    with Program.load(spec, {}) as program:
        assert program.info().name == "to_port_80"


@pytest.mark.needs(features.TCX_LINK)
def test_tcx_attach() -> None:
    """A tcx link to the loopback device of a network namespace that ends with the test; unknown before 6.6."""
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(attach_in_a_namespace_of_its_own).result() >= 0


def attach_in_a_namespace_of_its_own() -> int:
    """The descriptor of the link, which is closed already."""
    sys.unshare(sys.CLONE_NEWNET)
    spec = ProgramSpec("pass_on", ProgramType.SCHED_CLS, AttachType(0), "sk_buff", RETURN_ONE, {})
    with Program.load(spec, {}) as program:
        attributes = sys.new(
            "link_create", prog_fd=program.fd, target_fd=LOOPBACK_INDEX, attach_type=features.TCX_INGRESS
        )
        with Descriptor(sys.bpf(Command.LINK_CREATE, attributes, "attach program pass_on by tcx")) as link:
            return link.fd
