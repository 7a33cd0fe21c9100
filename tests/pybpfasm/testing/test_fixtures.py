"""The fixtures for users' tests: each is used as a user would, and gone afterwards, also when the test fails."""

import os
import socket
from pathlib import Path

import pytest

from pybpfasm import SockAddr, connect4, connect6, isa
from pybpfasm.kernel import Program
from pybpfasm.kernel.inventory import ObjectKind, object_ids
from pybpfasm.kernel.links import attach_cgroup
from pybpfasm.kernel.links.xdp import XdpMode, attach_xdp
from pybpfasm.spec import ProgramSpec
from pybpfasm.testing import (
    Cgroup,
    Load,
    Network,
    bpf_cgroup,  # noqa: F401 - a fixture is found by its name
    bpf_file_system,  # noqa: F401 - likewise
    bpf_load,  # noqa: F401 - likewise
    bpf_network,  # noqa: F401 - likewise
)
from pybpfasm.uapi import AttachType, ProgramType

# ruff: noqa: F811 - fixtures are imported, and then are arguments

REFUSED = 0


@connect4
def answer(ctx: SockAddr) -> int:
    """Refuse or not, as a constant says."""
    return REFUSED


@connect6
def other(ctx: SockAddr) -> int:
    """Let everybody pass."""
    return 1


def _connect() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))


def test_a_program_on_a_cgroup_refuses_its_process_and_no_other(bpf_cgroup: Cgroup, bpf_load: Load) -> None:
    """A process in the cgroup gets EPERM from a compiled program, this one does not."""
    loaded = bpf_load(answer)
    bpf_cgroup.run(_connect)
    with attach_cgroup(loaded.programs["answer"], bpf_cgroup.path):
        with pytest.raises(PermissionError):
            bpf_cgroup.run(_connect)
        _connect()
    bpf_cgroup.run(_connect)


def test_constants_and_several_programs(bpf_cgroup: Cgroup, bpf_load: Load) -> None:
    """A constant of the test's replaces the module's, programs of several hooks come together."""
    loaded = bpf_load(answer, other, REFUSED=1)
    assert set(loaded.programs) == {"answer", "other"}
    loaded.attach_all(cgroup=bpf_cgroup.path)
    bpf_cgroup.run(_connect)


def test_a_result_and_an_exception_come_back(bpf_cgroup: Cgroup) -> None:
    """What runs in the cgroup is another process; its result, and what it raises, are the caller's."""
    assert bpf_cgroup.run(os.getpid) != os.getpid()
    assert bpf_cgroup.run(lambda: Path("/proc/self/cgroup").read_text()).rstrip().endswith(bpf_cgroup.path.name)
    with pytest.raises(ZeroDivisionError):
        bpf_cgroup.run(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="status 3"):
        bpf_cgroup.run(lambda: os._exit(3))


def test_commands_in_the_cgroup_end_with_it(bpf_cgroup: Cgroup) -> None:
    """A command that would sleep for long is in the cgroup, and killed with it."""
    with bpf_cgroup.start(["/bin/sleep", "600"]) as process:
        while (bpf_cgroup.path / "cgroup.procs").read_text() == "":
            assert process.poll() is None
        bpf_cgroup.close()
        assert process.wait(10) < 0
    assert not bpf_cgroup.path.exists()


def _arrives(network: Network) -> bool:
    with network.right.socket(socket.SOCK_DGRAM) as receiver, network.left.socket(socket.SOCK_DGRAM) as sender:
        receiver.bind((network.right.ip4, 0))
        receiver.settimeout(0.5)
        sender.sendto(b"hello", receiver.getsockname())
        try:
            return receiver.recv(16) == b"hello"
        except TimeoutError:
            return False


def test_packets_cross_the_network_until_a_program_drops_them(bpf_network: Network, bpf_load: Load) -> None:
    """XDP on the right end drops what the left one sends; without it everything arrives."""
    drop = ProgramSpec("drop", ProgramType.XDP, AttachType.XDP, "xdp_md", (isa.mov_imm(0, 1), isa.exit_program()), {})
    program = bpf_load(drop).programs["drop"]
    assert _arrives(bpf_network)
    interface = bpf_network.right.interface
    with bpf_network.right.run(lambda: attach_xdp(program, interface, XdpMode.GENERIC)):
        assert not _arrives(bpf_network)
    assert _arrives(bpf_network)


def test_ipv6_works_at_once(bpf_network: Network) -> None:
    """Its addresses are usable without waiting for the test for doubles."""
    with bpf_network.left.socket(socket.SOCK_DGRAM, socket.AF_INET6) as sock:
        sock.bind((bpf_network.left.ip6, 0))


def test_pins_go_with_the_file_system(bpf_file_system: Path, bpf_load: Load) -> None:
    """What a test pins is seen there by its name."""
    bpf_load(answer).programs["answer"].pin(bpf_file_system / "answer")
    assert (bpf_file_system / "answer").exists()
    with Program.open(bpf_file_system / "answer") as same:
        assert same.spec.name == "answer"


_USER = """
import os
import socket
from pathlib import Path
import pytest
from pybpfasm import SockAddr, connect4

@connect4
def let(ctx: SockAddr) -> int:
    return 1

def test_fails(bpf_cgroup, bpf_network, bpf_file_system, bpf_load):
    loaded = bpf_load(let)
    loaded.programs["let"].pin(bpf_file_system / "let")
    loaded.attach_all(cgroup=bpf_cgroup.path)
    bpf_cgroup.start(["/bin/sleep", "600"])
    Path("places").write_text(f"{bpf_cgroup.path}\\n{bpf_file_system}")
    assert False, "on purpose"
"""


def _user_run(pytester: pytest.Pytester, *options: str, **environment: str) -> pytest.RunResult:
    pytester.makeconftest('pytest_plugins = ["pybpfasm.testing"]')
    pytester.makepyfile(_USER)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", *options)


def test_a_failing_test_leaves_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opted in by a conftest, all fixtures in a test that fails: no cgroup, mount or program remains."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    before = set(object_ids(ObjectKind.PROGRAM))
    result = _user_run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*on purpose*"])
    cgroup, file_system = map(Path, (pytester.path / "places").read_text().split("\n"))
    assert not cgroup.exists()
    assert not file_system.exists()
    assert str(file_system) not in Path("/proc/self/mounts").read_text()
    assert "let" not in _names(set(object_ids(ObjectKind.PROGRAM)) - before)


def test_without_root_it_is_an_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that cannot have its fixtures is an error with the way out, not a skip."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    pytester.makeconftest('import os\nos.geteuid = lambda: 1000\npytest_plugins = ["pybpfasm.testing"]')
    pytester.makepyfile("def test_one(bpf_cgroup): pass\ndef test_two(bpf_load): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*a cgroup for a test: run pytest as root*"])


def _names(ids: set[int]) -> set[str]:
    from pybpfasm.errors import KernelError
    from pybpfasm.kernel import Program

    found = set()
    for number in ids:
        try:
            with Program.by_id(number) as program:
                found.add(program.spec.name)
        except KernelError:  # another process's, gone meanwhile
            continue
    return found
