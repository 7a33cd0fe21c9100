"""Programs on cgroups: each hook has its effect, in order, by link and without; what is attached can be asked."""

import errno
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cgroup_actor import Actor, spare_cgroup
from small_programs import count, counting, load, returning

from pybpfasm import isa
from pybpfasm.errors import BpfError, KernelError, UnsupportedFeatureError
from pybpfasm.kernel import features
from pybpfasm.kernel.features import program_kind
from pybpfasm.kernel.links import Link
from pybpfasm.kernel.links.cgroup import (
    CGROUP_HOOKS,
    CgroupMode,
    attach_cgroup,
    attach_cgroup_directly,
    detach_cgroup_directly,
    query_cgroup,
)
from pybpfasm.kernel.links.order import FIRST, LinkId, Order, ProgramId, after, before
from pybpfasm.kernel.maps import Map
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachFlag, AttachType, LinkType, ProgramType

CONNECT4 = AttachType.CGROUP_INET4_CONNECT
UDP, UDP6 = "s = socket.socket(type=socket.SOCK_DGRAM)", "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)"
BOUND, BOUND6 = (
    f"{UDP}; s.bind(('127.0.0.1', 0)); a = s.getsockname()",
    f"{UDP6}; s.bind(('::1', 0)); a = s.getsockname()",
)
UNIX = "s, t = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in '12'); s.bind(''); a = s.getsockname()"
CONNECT = f"{UDP}; s.connect(('127.0.0.1', 9)); it = s.getpeername()[1]"

REFUSED = {"errno": errno.EPERM}

# What has each hook's program run.
DEEDS = {
    AttachType.CGROUP_INET_INGRESS: f"{BOUND}; s.sendto(b'x', a); s.recv(1)",
    AttachType.CGROUP_INET_EGRESS: f"{BOUND}; s.sendto(b'x', a)",
    AttachType.CGROUP_INET_SOCK_CREATE: UDP,
    AttachType.CGROUP_INET_SOCK_RELEASE: f"{UDP}; s.close()",
    AttachType.CGROUP_INET4_POST_BIND: BOUND,
    AttachType.CGROUP_INET6_POST_BIND: BOUND6,
    AttachType.CGROUP_SOCK_OPS: "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())",
    AttachType.CGROUP_DEVICE: "open('/dev/null').close()",
    AttachType.CGROUP_INET4_BIND: BOUND,
    AttachType.CGROUP_INET6_BIND: BOUND6,
    AttachType.CGROUP_INET4_CONNECT: CONNECT,
    AttachType.CGROUP_INET6_CONNECT: f"{UDP6}; s.connect(('::1', 9))",
    AttachType.CGROUP_UDP4_SENDMSG: f"{BOUND}; s.sendto(b'x', a)",
    AttachType.CGROUP_UDP6_SENDMSG: f"{BOUND6}; s.sendto(b'x', a)",
    AttachType.CGROUP_UDP4_RECVMSG: f"{BOUND}; s.sendto(b'x', a); s.recvfrom(1)",
    AttachType.CGROUP_UDP6_RECVMSG: f"{BOUND6}; s.sendto(b'x', a); s.recvfrom(1)",
    AttachType.CGROUP_INET4_GETPEERNAME: CONNECT,
    AttachType.CGROUP_INET6_GETPEERNAME: f"{UDP6}; s.connect(('::1', 9)); s.getpeername()",
    AttachType.CGROUP_INET4_GETSOCKNAME: BOUND,
    AttachType.CGROUP_INET6_GETSOCKNAME: BOUND6,
    AttachType.CGROUP_UNIX_CONNECT: f"{UNIX}; t.connect(a)",
    AttachType.CGROUP_UNIX_SENDMSG: f"{UNIX}; t.sendto(b'x', a)",
    AttachType.CGROUP_UNIX_RECVMSG: f"{UNIX}; t.bind(''); t.sendto(b'x', a); s.recvfrom(1)",
    AttachType.CGROUP_UNIX_GETPEERNAME: f"{UNIX}; t.connect(a); t.getpeername()",
    AttachType.CGROUP_UNIX_GETSOCKNAME: UNIX,
    AttachType.CGROUP_SYSCTL: "open('/proc/sys/net/ipv4/ip_forward').read()",
    AttachType.CGROUP_GETSOCKOPT: f"{UDP}; s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)",
    AttachType.CGROUP_SETSOCKOPT: f"{UDP}; s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)",
}


def hooks() -> Iterator[object]:
    """Each hook, with what it needs of the kernel."""
    for hook, known in CGROUP_HOOKS.items():
        if hook in DEEDS:  # LSM programs are another matter
            needed = program_kind(known.program_type, hook, known.since)
            yield pytest.param(hook, id=hook.name.lower(), marks=pytest.mark.needs(needed))


@pytest.fixture(scope="module")
def actor() -> Iterator[Actor]:
    """The process in the cgroup."""
    made = Actor()
    yield made
    made.close()


def deciding(verdict: int, name: str = "test") -> Program:
    """A program that lets connect (1) or refuses it (0)."""
    return returning(ProgramType.CGROUP_SOCK_ADDR, CONNECT4, verdict, name)


def test_every_hook_is_known() -> None:
    """The table has all of the header's hooks of cgroups, and each but LSM's has a deed here."""
    of_cgroups = {each for each in AttachType if "CGROUP" in each.name}
    assert set(CGROUP_HOOKS) == of_cgroups
    assert set(DEEDS) == of_cgroups - {AttachType.LSM_CGROUP}


@pytest.mark.parametrize("hook", list(hooks()))
def test_each_hook_runs_its_program(actor: Actor, counts: Map, hook: AttachType) -> None:
    """What its hook is about has the program run, while the link is there; link and query name it."""
    with counting(CGROUP_HOOKS[hook].program_type, hook, 1, counts) as program:
        with attach_cgroup(program, actor.cgroup) as link:
            info = link.info()
            assert (info.type, info.attach_type) == (LinkType.CGROUP, hook)
            assert (info.target, info.program_id) == (actor.cgroup.stat().st_ino, program.info().id)
            found = query_cgroup(actor.cgroup, hook)
            assert found.ids == (program.info().id,)
            assert found.flags == AttachFlag.ALLOW_MULTI
            answer = actor.do(DEEDS[hook])
            assert answer is None or isinstance(answer, int)
            assert count(counts) > 0
        before = count(counts)
        actor.do(DEEDS[hook])
        assert count(counts) == before
        assert query_cgroup(actor.cgroup, hook).ids == ()


@pytest.mark.needs(features.LSM_CGROUP)
def test_an_lsm_hook_of_a_cgroup(actor: Actor) -> None:
    """An LSM program that is attached to the cgroup refuses a bind there."""
    code = (isa.mov_imm(0, 0), isa.exit_program())
    spec = ProgramSpec("guard", ProgramType.LSM, AttachType.LSM_CGROUP, "ctx", code, {}, attach_to="socket_bind")
    with Program.load(spec, {}) as guard:
        with attach_cgroup(guard, actor.cgroup) as link:
            assert link.info().attach_type == AttachType.LSM_CGROUP
            assert query_cgroup(actor.cgroup, AttachType.LSM_CGROUP).ids == (guard.info().id,)
            assert actor.do(BOUND) == REFUSED
        assert actor.do(BOUND) is None


def test_a_connect_is_refused_and_rewritten(actor: Actor) -> None:
    """One program has the connect fail with EPERM, another has it go to another port."""
    with deciding(0) as refuse, attach_cgroup(refuse, actor.cgroup):
        assert actor.do(CONNECT) == REFUSED
    code = (
        isa.mov_imm(2, int.from_bytes((4242).to_bytes(2, "big"), "little")),
        isa.store(4, 1, 24, 2),  # user_port of struct bpf_sock_addr, in network order
        isa.mov_imm(0, 1),
        isa.exit_program(),
    )
    with load(ProgramType.CGROUP_SOCK_ADDR, CONNECT4, code) as rewrite, attach_cgroup(rewrite, actor.cgroup):
        assert actor.do(CONNECT) == 4242
    assert actor.do(CONNECT) == 9


def test_effective_programs(actor: Actor) -> None:
    """A program of the cgroup above runs, too, after its own; one that refuses is enough."""
    with deciding(1) as own, deciding(0) as above:
        with attach_cgroup(own, actor.cgroup), attach_cgroup(above, actor.parent):
            assert actor.do(CONNECT) == REFUSED
            assert query_cgroup(actor.cgroup, CONNECT4).ids == (own.info().id,)
            effective = query_cgroup(actor.cgroup, CONNECT4, effective=True).ids
            assert effective == (own.info().id, above.info().id)
        assert actor.do(CONNECT) == 9


def test_more_programs_than_expected(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query whose room is too small for all programs is made again with more."""
    monkeypatch.setattr("pybpfasm.kernel.links.query._FIRST_COUNT", 1)
    with ExitStack() as held:
        made = [held.enter_context(deciding(1)) for _ in range(5)]
        for each in made:
            held.enter_context(attach_cgroup(each, actor.cgroup))
        ids = tuple(each.info().id for each in made)
        assert query_cgroup(actor.cgroup, CONNECT4).ids == ids
        assert query_cgroup(actor.cgroup, CONNECT4, effective=True).ids == ids


def test_link_in_use(actor: Actor, bpffs: Path) -> None:
    """Updated in place, only over the expected program; pinned and adopted; detached for good."""
    with deciding(0) as refuse, deciding(1) as let:
        with attach_cgroup(refuse, actor.cgroup) as link:
            number = link.info().id
            link.pin(bpffs / "link")
        assert actor.do(CONNECT) == REFUSED
        with Link.open(bpffs / "link") as again:
            again.update(let, old=refuse)
            assert actor.do(CONNECT) == 9
            assert (again.info().id, again.info().program_id) == (number, let.info().id)
            again.update(refuse)
            assert actor.do(CONNECT) == REFUSED
            again.detach()
            assert actor.do(CONNECT) == 9
            assert again.info().target == 0
            with pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
                again.update(let)


def test_a_cgroup_that_vanished(actor: Actor) -> None:
    """The link of a removed cgroup has no target, takes no program, and can be detached and closed."""
    spare = spare_cgroup(actor.parent)
    with deciding(0) as refuse, deciding(1) as let, attach_cgroup(refuse, spare) as link:
        spare.rmdir()
        wait_until(lambda: link.info().target == 0)
        with pytest.raises(KernelError, match=r"is gone \(ENOLINK\)$"):
            link.update(let)
        link.detach()


def wait_until(reached: Callable[[], bool]) -> None:
    """The kernel takes things apart in workers of its own."""
    for _ in range(1000):
        if reached():
            return
        time.sleep(0.01)
    pytest.fail("the kernel has not come to it in ten seconds")


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.needs(features.CGROUP_ORDER)
def test_order(actor: Actor) -> None:
    """First, before and after, by descriptors and by ids of programs and links."""
    with ExitStack() as held:
        made = [held.enter_context(deciding(1)) for _ in range(6)]
        ids = [each.info().id for each in made]
        links: list[Link] = []
        places: list[Callable[[], Order | None]] = [
            lambda: None,
            lambda: FIRST,
            lambda: before(links[0]),
            lambda: after(links[1]),
            lambda: before(LinkId(links[0].info().id)),
            lambda: after(LinkId(links[2].info().id)),
        ]
        expected = [[0], [1, 0], [1, 2, 0], [1, 3, 2, 0], [1, 3, 2, 4, 0], [1, 3, 2, 5, 4, 0]]
        for each, place, wanted in zip(made, places, expected, strict=True):
            links.append(held.enter_context(attach_cgroup(each, actor.cgroup, order=place())))
            assert query_cgroup(actor.cgroup, CONNECT4).ids == tuple(ids[number] for number in wanted)


@pytest.mark.needs(features.CGROUP_ORDER)
def test_order_without_links(actor: Actor) -> None:
    """Programs without a link are placed beside such, by descriptor and by id; a link is not."""
    with deciding(1) as direct, deciding(1) as one, deciding(1) as two, attach_cgroup_directly(direct, actor.cgroup):
        number = direct.info().id
        with attach_cgroup_directly(one, actor.cgroup, order=before(direct)):
            revision = query_cgroup(actor.cgroup, CONNECT4).revision
            beside = after(ProgramId(number))
            with attach_cgroup_directly(two, actor.cgroup, order=beside, expected_revision=revision):
                assert query_cgroup(actor.cgroup, CONNECT4).ids == (one.info().id, number, two.info().id)
        with pytest.raises(KernelError, match=r"links beside links, others beside others \(EINVAL\)$"):
            attach_cgroup(one, actor.cgroup, order=before(direct))


@pytest.mark.needs(features.CGROUP_ORDER)
def test_order_that_cannot_be(actor: Actor) -> None:
    """A neighbour that is not there, and a revision that is over: ENOENT, ESTALE."""
    with deciding(1) as one, deciding(1) as two, attach_cgroup(one, actor.cgroup):
        with (
            attach_cgroup(two, spare := spare_cgroup(actor.parent)) as elsewhere,
            pytest.raises(KernelError, match=r"is not attached there \(ENOENT\)$"),
        ):
            attach_cgroup(two, actor.cgroup, order=before(elsewhere))
        spare.rmdir()
        seen = query_cgroup(actor.cgroup, CONNECT4).revision
        with (
            attach_cgroup(two, actor.cgroup, expected_revision=seen),
            deciding(1) as three,
            pytest.raises(KernelError, match=r"query again \(ESTALE\)$"),
        ):
            attach_cgroup(three, actor.cgroup, expected_revision=seen)


@pytest.mark.needs(features.CGROUP_ORDER)
def test_preorder(actor: Actor) -> None:
    """A program of the cgroup above that was attached as preorder comes before the cgroup's own."""
    with (
        deciding(1) as own,
        deciding(1) as above,
        attach_cgroup(own, actor.cgroup),
        attach_cgroup(above, actor.parent, preorder=True),
    ):
        effective = query_cgroup(actor.cgroup, CONNECT4, effective=True).ids
        assert effective == (above.info().id, own.info().id)


def test_order_where_there_is_none(actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without it says so, also for a revision, which it would not look at."""
    monkeypatch.setattr("pybpfasm.kernel.links.cgroup.lacks", lambda _: True)
    with deciding(1) as program:
        for wanted in ({"order": FIRST}, {"expected_revision": 1}, {"preorder": True}):
            with pytest.raises(UnsupportedFeatureError, match=r"order of programs at a cgroup: it needs Linux 6\.17"):
                attach_cgroup(program, actor.cgroup, **wanted)  # type: ignore[arg-type]  # one of several keywords


# --- without links ----------------------------------------------------------------------------------------------------


def test_attached_directly(actor: Actor) -> None:
    """Without a link the program is there until it is detached; another takes its place; there is nothing to pin."""
    with deciding(0) as refuse, deciding(1) as let:
        with attach_cgroup_directly(refuse, actor.cgroup) as attached:
            assert actor.do(CONNECT) == REFUSED
            attached.update(let)
            assert actor.do(CONNECT) == 9
            attached.update(refuse, old=let)
            assert actor.do(CONNECT) == REFUSED
            with pytest.raises(KernelError, match=r"cannot replace the attached program by test: .*\(ENOENT\)$"):
                attached.update(let, old=let)
            with pytest.raises(BpfError, match=r"without a link: there is none to ask about it or to pin$"):
                attached.info()
            with pytest.raises(BpfError, match="without a link"):
                attached.pin(Path("link"))
        assert actor.do(CONNECT) == 9


def test_kept_and_detached_by_another(actor: Actor) -> None:
    """What is kept outlives its object, and anybody who has the program detaches it."""
    with deciding(0) as refuse, deciding(1) as other:
        with attach_cgroup_directly(refuse, actor.cgroup) as attached:
            attached.keep()
        assert actor.do(CONNECT) == REFUSED
        detach_cgroup_directly(refuse, actor.cgroup)
        assert actor.do(CONNECT) == 9
        with pytest.raises(KernelError, match=r"it is not attached there, or by a link \(ENOENT\)$"):
            detach_cgroup_directly(other, actor.cgroup)


def test_a_place_is_taken_over(actor: Actor) -> None:
    """`replace` puts a program into the place of another that was attached without a link."""
    with deciding(0) as refuse, deciding(1) as let, deciding(1) as third:
        attached = attach_cgroup_directly(refuse, actor.cgroup)
        with attach_cgroup_directly(let, actor.cgroup, replace=refuse):
            assert query_cgroup(actor.cgroup, CONNECT4).ids == (let.info().id,)
            assert actor.do(CONNECT) == 9
            with pytest.raises(KernelError, match=r"to be placed beside or replaced is not attached there \(ENOENT\)$"):
                attach_cgroup_directly(third, actor.cgroup, replace=refuse)
        attached.close()  # gone already


def test_modes(actor: Actor) -> None:
    """EXCLUSIVE lets none below, OVERRIDE one instead of it; neither lets a link beside it."""
    with deciding(0) as above, deciding(1) as below:
        with attach_cgroup_directly(above, actor.parent, mode=CgroupMode.EXCLUSIVE):
            assert query_cgroup(actor.parent, CONNECT4).flags == 0
            with pytest.raises(KernelError, match=r"in a mode that lets none beside it \(EPERM\)$"):
                attach_cgroup(below, actor.cgroup)
        with attach_cgroup_directly(above, actor.parent, mode=CgroupMode.OVERRIDE) as attached:
            assert actor.do(CONNECT) == REFUSED
            assert query_cgroup(actor.parent, CONNECT4).flags == AttachFlag.ALLOW_OVERRIDE
            with attach_cgroup_directly(below, actor.cgroup, mode=CgroupMode.OVERRIDE):
                assert actor.do(CONNECT) == 9
            assert actor.do(CONNECT) == REFUSED
            attached.update(below)
            assert actor.do(CONNECT) == 9


def test_a_cgroup_that_vanished_without_a_link(actor: Actor) -> None:
    """Closing is quiet; an update says that the cgroup is gone."""
    spare = spare_cgroup(actor.parent)
    with deciding(0) as refuse, deciding(1) as let, attach_cgroup_directly(refuse, spare) as attached:
        spare.rmdir()
        with pytest.raises(KernelError, match=r"^cannot replace the attached program by test: .*\((ENOENT|ENODEV)\)$"):
            attached.update(let)


# --- without privilege ------------------------------------------------------------------------------------------------

UNPRIVILEGED = """
import os, sys
sys.path[:0] = {path!r}
from pybpfasm.errors import KernelError
from pybpfasm.isa import exit_program, mov_imm
from pybpfasm.kernel.links import attach_cgroup
from pybpfasm.kernel.programs import Program
from pybpfasm.spec import ProgramSpec
from pybpfasm.uapi import AttachType, ProgramType

spec = ProgramSpec("accept", ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS, "__sk_buff",
                   (mov_imm(0, 1), exit_program()), {{}})
cgroup = os.open({cgroup!r}, os.O_RDONLY)
program = Program.load(spec, {{}})
attach_cgroup(program, cgroup).close()  # parts are loaded when first used, and the user below may not read them
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    attach_cgroup(program, cgroup)
except KernelError as error:
    print(error)
"""


def test_without_privilege(actor: Actor) -> None:
    """Who lacks the capabilities is told these, not of modes; the kernel asks for them again with this kind only."""
    source = UNPRIVILEGED.format(path=sys.path, cgroup=str(actor.cgroup))
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    place = "cannot attach program accept to the cgroup's hook cgroup_inet_egress"
    assert found.stdout == f"{place}: it needs root, or CAP_BPF and CAP_NET_ADMIN (EPERM)\n"


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_cannot_be(actor: Actor, tmp_path: Path) -> None:
    """No cgroup, another kind of program, the same program twice, an unknown hook: each is one line."""
    with deciding(1) as let:
        with pytest.raises(KernelError, match=r"hook cgroup_inet4_connect: the target is no cgroup \(v2\) \(EBADF\)$"):
            attach_cgroup(let, tmp_path)
        with pytest.raises(KernelError, match=rf"^cannot open {tmp_path}/none: .*\(ENOENT\)$"):
            attach_cgroup(let, tmp_path / "none")
        with (
            attach_cgroup_directly(let, actor.cgroup),
            pytest.raises(KernelError, match=r"takes a program without a link once.*\(EINVAL\)$"),
        ):
            attach_cgroup_directly(let, actor.cgroup)
        with pytest.raises(KernelError, match=r"for hook cgroup_sysctl, which cgroups do not have \(EINVAL\)$"):
            attach_cgroup(let, actor.cgroup, hook=AttachType.CGROUP_SYSCTL)
    with (
        returning(ProgramType.XDP, AttachType.XDP, 2) as xdp,
        pytest.raises(KernelError, match=r"^cannot attach program test to a cgroup: it is of type xdp for hook xdp"),
    ):
        attach_cgroup(xdp, actor.cgroup)
    with pytest.raises(KernelError, match=r"cgroups have no such hook \(EINVAL\)$"):
        query_cgroup(actor.cgroup, AttachType.XDP)
