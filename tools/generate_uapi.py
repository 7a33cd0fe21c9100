"""Write the tables of pybpfasm/uapi/: the numbers and the helpers' prototypes of include/uapi/linux/bpf.h.

    python -m tools.generate_uapi             the header of Debian sid's linux-libc-dev, fetched with apt
    python -m tools.generate_uapi HEADER      another one; linux/version.h lies beside it

Only names, numbers and C types are taken over. An enum or a flag of the header that no table here names stops the
generator: whoever moves to a newer header decides what becomes of it.
"""

import ast
import operator
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent

import attrs

from tools.vm.apt import Suite
from tools.vm.errors import VmError

TARGET = Path(__file__).parent.parent / "pybpfasm" / "uapi"
SUITE, PACKAGE = "sid", "linux-libc-dev"
LINE_LENGTH = 120


@attrs.frozen
class Enumeration:
    """One enum of ours.

    `sources` are the header's: an enum's name, or the first member of an anonymous enum, or the name of a #define.
    A member loses the first of `prefixes` that it has.
    """

    name: str
    base: str
    sources: tuple[str, ...]
    prefixes: tuple[str, ...]
    text: str


def choice(name: str, source: str, prefix: str, text: str) -> Enumeration:
    """Numbers that exclude each other: an IntEnum from one enum of the header."""
    return Enumeration(name, "IntEnum", (source,), (prefix,), text)


def flags(name: str, sources: str, prefixes: str, text: str) -> Enumeration:
    """Numbers that may be combined: an IntFlag; sources and prefixes are separated by spaces."""
    return Enumeration(name, "IntFlag", tuple(sources.split()), tuple(prefixes.split()), text)


@attrs.frozen
class Module:
    """A generated module; it is loaded when the first of its enums is used."""

    name: str
    text: str
    enumerations: tuple[Enumeration, ...]


MODULES = (
    Module("commands", "Commands of bpf(2)", (choice("Command", "bpf_cmd", "BPF_", "Commands of bpf(2)."),)),
    Module("map_types", "Kinds of map", (choice("MapType", "bpf_map_type", "BPF_MAP_TYPE_", "Kinds of map."),)),
    Module(
        "program_types",
        "Kinds of program",
        (choice("ProgramType", "bpf_prog_type", "BPF_PROG_TYPE_", "Kinds of program."),),
    ),
    Module(
        "attach_types",
        "Places a program is attached to",
        (choice("AttachType", "bpf_attach_type", "BPF_", "Places a program is attached to."),),
    ),
    Module("link_types", "Kinds of link", (choice("LinkType", "bpf_link_type", "BPF_LINK_TYPE_", "Kinds of link."),)),
    Module(
        "helpers",
        "Helper functions",
        (choice("Helper", "bpf_func_id", "BPF_FUNC_", "Helper functions, by the number of their call."),),
    ),
    Module(
        "core_relocations",
        "Kinds of CO-RE relocation",
        (
            choice(
                "CoreRelocationKind",
                "bpf_core_relo_kind",
                "BPF_CORE_",
                "What a CO-RE relocation asks of the kernel's types.",
            ),
        ),
    ),
    Module(
        "map_flags",
        "Flags of maps and their elements",
        (
            flags("MapCreateFlag", "BPF_F_NO_PREALLOC", "BPF_F_", "Flags of MAP_CREATE; some are for pins, too."),
            flags("MapUpdateFlag", "BPF_ANY", "BPF_F_ BPF_", "Flags of an element's update and look-up."),
        ),
    ),
    Module(
        "command_arguments",
        "Flags and choices in the arguments of bpf(2), other than maps'",
        (
            flags(
                "AttachFlag",
                "BPF_F_ALLOW_OVERRIDE BPF_F_ALLOW_MULTI BPF_F_REPLACE BPF_F_BEFORE BPF_F_AFTER BPF_F_ID BPF_F_PREORDER "
                "BPF_F_LINK",
                "BPF_F_",
                "Flags of PROG_ATTACH, PROG_DETACH and of links: who runs beside whom, and in which order.",
            ),
            choice(
                "CgroupIterOrder", "bpf_cgroup_iter_order", "BPF_CGROUP_ITER_", "Order of an iterator over cgroups."
            ),
            flags(
                "KprobeMultiFlag", "BPF_F_KPROBE_MULTI_RETURN", "BPF_F_KPROBE_MULTI_", "Flags of a kprobe_multi link."
            ),
            flags(
                "NetfilterFlag", "BPF_F_NETFILTER_IP_DEFRAG", "BPF_F_NETFILTER_", "Flags of a link to a netfilter hook."
            ),
            choice(
                "PerfEventType", "bpf_perf_event_type", "BPF_PERF_EVENT_", "What a link's perf event is, in its info."
            ),
            flags(
                "ProgramLoadFlag",
                "BPF_F_STRICT_ALIGNMENT BPF_F_ANY_ALIGNMENT BPF_F_TEST_RND_HI32 BPF_F_TEST_STATE_FREQ BPF_F_SLEEPABLE "
                "BPF_F_XDP_HAS_FRAGS BPF_F_XDP_DEV_BOUND_ONLY BPF_F_TEST_REG_INVARIANTS BPF_F_TOKEN_FD",
                "BPF_F_",
                "Flags of PROG_LOAD.",
            ),
            flags(
                "ProgramRunFlag",
                "BPF_F_TEST_RUN_ON_CPU BPF_F_TEST_XDP_LIVE_FRAMES BPF_F_TEST_SKB_CHECKSUM_COMPLETE",
                "BPF_F_TEST_",
                "Flags of PROG_RUN, once called PROG_TEST_RUN.",
            ),
            flags("QueryFlag", "BPF_F_QUERY_EFFECTIVE", "BPF_F_QUERY_", "Flags of PROG_QUERY."),
            choice("StatsType", "bpf_stats_type", "BPF_STATS_", "What ENABLE_STATS counts."),
            choice("Stream", "BPF_STREAM_STDOUT", "BPF_STREAM_", "A program's streams, for PROG_STREAM_READ_BY_FD."),
            choice("TaskFdType", "bpf_task_fd_type", "BPF_FD_TYPE_", "What TASK_FD_QUERY found behind a descriptor."),
            flags(
                "UprobeMultiFlag", "BPF_F_UPROBE_MULTI_RETURN", "BPF_F_UPROBE_MULTI_", "Flags of a uprobe_multi link."
            ),
        ),
    ),
    Module(
        "verdicts",
        "What programs return",
        (
            choice(
                "ReturnCode", "bpf_ret_code", "BPF_", "Verdicts of the lightweight tunnel and flow dissector programs."
            ),
            choice("SkAction", "sk_action", "SK_", "Verdicts of sk_msg, sk_skb, sk_lookup and sk_reuseport programs."),
            choice("TcxAction", "tcx_action_base", "TCX_", "Verdicts of tcx programs."),
            choice("XdpAction", "xdp_action", "XDP_", "Verdicts of XDP programs."),
        ),
    ),
    Module(
        "sockets",
        "Sockets: sock_ops programs, options, storage, cgroup hooks",
        (
            choice(
                "BpfSocketOption", "TCP_BPF_IW", "TCP_BPF_", "Options that only BPF's setsockopt and getsockopt have."
            ),
            flags(
                "DeviceAccess", "BPF_DEVCG_ACC_MKNOD", "BPF_DEVCG_ACC_", "Accesses that a cgroup/dev program judges."
            ),
            flags("DeviceType", "BPF_DEVCG_DEV_BLOCK", "BPF_DEVCG_DEV_", "Kinds of device of a cgroup/dev program."),
            flags("LoadHeaderOptionFlag", "BPF_LOAD_HDR_OPT_TCP_SYN", "BPF_LOAD_HDR_OPT_", "Flags of load_hdr_opt."),
            Enumeration(
                "LocalStorageFlag",
                "IntFlag",
                ("BPF_LOCAL_STORAGE_GET_F_CREATE",),
                ("BPF_LOCAL_STORAGE_GET_F_", "BPF_"),
                "Flags of the helpers that get an object's own storage, such as sk_storage_get.",
            ),
            choice(
                "NetworkNamespace",
                "BPF_F_CURRENT_NETNS",
                "BPF_F_",
                "What a socket's look-up takes for a namespace's id.",
            ),
            flags(
                "SkAssignFlag",
                "BPF_SK_LOOKUP_F_REPLACE",
                "BPF_SK_LOOKUP_F_",
                "Flags of sk_assign in an sk_lookup program.",
            ),
            flags(
                "SockOpsCallbackFlag",
                "BPF_SOCK_OPS_RTO_CB_FLAG",
                "BPF_SOCK_OPS_",
                "Events that a socket asks for with sock_ops_cb_flags_set.",
            ),
            choice("SockOpsOp", "BPF_SOCK_OPS_VOID", "BPF_SOCK_OPS_", "Why a sock_ops program was called: its op."),
            flags(
                "SocketCallbackFlag",
                "SK_BPF_CB_TX_TIMESTAMPING",
                "SK_BPF_CB_",
                "Events that a socket asks for with the option SK_BPF_CB_FLAGS.",
            ),
            flags("SysctlNameFlag", "BPF_F_SYSCTL_BASE_NAME", "BPF_F_SYSCTL_", "Flags of sysctl_get_name."),
            choice("TcpState", "BPF_TCP_ESTABLISHED", "BPF_TCP_", "States of a TCP socket."),
            choice(
                "WriteHeaderOption",
                "BPF_WRITE_HDR_TCP_CURRENT_MSS",
                "BPF_WRITE_HDR_",
                "Why a sock_ops program is asked for header options: args[0] of HDR_OPT_LEN_CB and WRITE_HDR_OPT_CB.",
            ),
        ),
    ),
    Module(
        "packets",
        "Packets: flags, modes and results of helpers",
        (
            choice(
                "AdjustRoomEncapL2",
                "BPF_ADJ_ROOM_ENCAP_L2_MASK",
                "BPF_ADJ_ROOM_ENCAP_L2_",
                "Where the length of the inner L2 header lies in the flags of skb_adjust_room.",
            ),
            flags("AdjustRoomFlag", "BPF_F_ADJ_ROOM_FIXED_GSO", "BPF_F_ADJ_ROOM_", "Flags of skb_adjust_room."),
            choice("AdjustRoomMode", "bpf_adj_room_mode", "BPF_ADJ_ROOM_", "Where skb_adjust_room makes room."),
            flags("CheckMtuFlag", "bpf_check_mtu_flags", "BPF_MTU_CHK_", "Flags of check_mtu."),
            choice("CheckMtuResult", "bpf_check_mtu_ret", "BPF_MTU_CHK_RET_", "What check_mtu returns."),
            choice("CsumLevel", "BPF_CSUM_LEVEL_QUERY", "BPF_CSUM_LEVEL_", "What csum_level does."),
            flags(
                "CsumReplaceFlag",
                "BPF_F_HDR_FIELD_MASK BPF_F_PSEUDO_HDR",
                "BPF_F_",
                "Flags of l4_csum_replace; l3_csum_replace has the field's size (HDR_FIELD_MASK) only.",
            ),
            flags("FibLookupFlag", "BPF_FIB_LOOKUP_DIRECT", "BPF_FIB_LOOKUP_", "Flags of fib_lookup."),
            choice("FibLookupResult", "BPF_FIB_LKUP_RET_SUCCESS", "BPF_FIB_LKUP_RET_", "What fib_lookup returns."),
            flags(
                "FlowDissectorFlag",
                "BPF_FLOW_DISSECTOR_F_PARSE_1ST_FRAG",
                "BPF_FLOW_DISSECTOR_F_",
                "Flags of struct bpf_flow_keys.",
            ),
            flags(
                "GetTunnelKeyFlag",
                "BPF_F_TUNINFO_IPV6 BPF_F_TUNINFO_FLAGS",
                "BPF_F_",
                "Flags of skb_get_tunnel_key.",
            ),
            choice("HeaderStart", "bpf_hdr_start_off", "BPF_HDR_START_", "What skb_load_bytes_relative counts from."),
            choice("LwtEncapMode", "bpf_lwt_encap_mode", "BPF_LWT_ENCAP_", "What lwt_push_encap pushes."),
            flags("RedirectFlag", "BPF_F_INGRESS", "BPF_F_", "Flags of redirect, redirect_map and the like."),
            flags(
                "SetTunnelKeyFlag",
                "BPF_F_TUNINFO_IPV6 BPF_F_ZERO_CSUM_TX",
                "BPF_F_",
                "Flags of skb_set_tunnel_key.",
            ),
            Enumeration(
                "SkbClock",
                "IntEnum",
                ("BPF_SKB_TSTAMP_UNSPEC",),
                ("BPF_SKB_CLOCK_", "BPF_SKB_"),
                "The clock of a packet's time stamp: tstamp_type, and what skb_set_tstamp takes.",
            ),
            flags("SkbStoreBytesFlag", "BPF_F_RECOMPUTE_CSUM", "BPF_F_", "Flags of skb_store_bytes."),
        ),
    ),
    Module(
        "ring_buffers",
        "Ring buffers: flags, queries, record headers",
        (
            flags("RingbufFlag", "BPF_RB_NO_WAKEUP", "BPF_RB_", "Flags of ringbuf_output, _submit and _discard."),
            choice(
                "RingbufHeader",
                "BPF_RINGBUF_BUSY_BIT",
                "BPF_RINGBUF_",
                "A record's header: two bits of its length, and its size in bytes.",
            ),
            choice("RingbufQuery", "BPF_RB_AVAIL_DATA", "BPF_RB_", "What ringbuf_query asks for."),
        ),
    ),
    Module(
        "tracing",
        "Tracing, timers and what is left: flags of helpers and kfuncs",
        (
            flags("BprmFlag", "BPF_F_BPRM_SECUREEXEC", "BPF_F_BPRM_", "Flags of bprm_opts_set."),
            flags(
                "BranchRecordsFlag",
                "BPF_F_GET_BRANCH_RECORDS_SIZE",
                "BPF_F_GET_BRANCH_RECORDS_",
                "Flags of read_branch_records.",
            ),
            flags("BtfFormatFlag", "BTF_F_COMPACT", "BTF_F_", "Flags of snprintf_btf and seq_printf_btf."),
            flags("KfuncFlag", "bpf_kfunc_flags", "BPF_F_", "Flags of kfuncs that copy strings."),
            flags("PerfEventFlag", "BPF_F_INDEX_MASK", "BPF_F_", "Flags of perf_event_output, _read and _read_value."),
            choice(
                "StackBuildIdStatus",
                "bpf_stack_build_id_status",
                "BPF_STACK_BUILD_ID_",
                "What an entry of a stack with build ids holds.",
            ),
            flags("StackFlag", "BPF_F_SKIP_FIELD_MASK", "BPF_F_", "Flags of get_stack and get_stackid."),
            flags("TimerFlag", "BPF_F_TIMER_ABS", "BPF_F_TIMER_", "Flags of timer_start."),
        ),
    ),
)

# Enums and flags without a table: fields of instructions are for pybpfasm.isa; the last two combine flags from above.
NOT_TAKEN = {
    "bpf_cond_pseudo_jmp",
    "bpf_addr_space_cast",
    "BPF_REG_0",
    "BPF_F_ADJ_ROOM_ENCAP_L2",
    "BPF_F_REDIRECT_FLAGS",
}
# Counts in enums: they change from version to version.
COUNTS = {"BPF_TCP_MAX_STATES", "MAX_BPF_LINK_TYPE"}
# Names that come after their numbers' other name, which is then the one that is shown.
SUPERSEDED = {
    "BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED",
    "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED",
    "BPF_SKB_TSTAMP_UNSPEC",
    "BPF_SKB_TSTAMP_DELIVERY_MONO",
}


@attrs.frozen
class Header:
    """What a linux/bpf.h defines, by the header's names; an anonymous enum goes by its first member."""

    enums: Mapping[str, Mapping[str, int]]
    defines: Mapping[str, int]

    def members(self, enumeration: Enumeration) -> dict[str, int]:
        """The members of an enum of ours, named as in Python; empty if this header lacks its sources."""
        found: dict[str, int] = {}
        for source in enumeration.sources:
            found |= self.enums.get(source) or self.constant(source)
        found = dict(sorted(found.items(), key=lambda member: member[0] in SUPERSEDED))
        return {short_name(name, enumeration.prefixes): number for name, number in found.items() if is_member(name)}

    def constant(self, name: str) -> dict[str, int]:
        """A single flag, from the preprocessor's or an enum's definition; empty if this header lacks it."""
        definitions = (self.defines, *self.enums.values())
        return next(({name: each[name]} for each in definitions if name in each), {})


def is_member(name: str) -> bool:
    """Whether it stands for something, rather than for the number of members."""
    return not name.startswith("__") and name not in COUNTS


def short_name(name: str, prefixes: Iterable[str]) -> str:
    """A member's name in Python."""
    prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
    return name.removeprefix(prefix).upper()


def read_header(text: str) -> Header:
    """Read the enums and the BPF_F_ definitions of a header."""
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).replace("\\\n", "")
    enums: dict[str, Mapping[str, int]] = {"bpf_func_id": helper_ids(code)}
    known: dict[str, int] = {}
    for name, body in re.findall(r"^enum\s*(\w*)\s*\{(.*?)^\}", code, re.DOTALL | re.MULTILINE):
        if name not in enums:
            members = count(body, known)
            enums[name or next(iter(members))] = members
            known |= members
    return Header(enums, flag_definitions(code, known))


def helper_ids(code: str) -> dict[str, int]:
    """Helpers from the mapper's list: FN(name, number, …), or FN(name) in order before Linux 6.2."""
    numbered = re.findall(r"\bFN\((\w+), (\d+), ##ctx\)", code)
    ordered = ((name, number) for number, name in enumerate(re.findall(r"\bFN\((\w+)\)", code)))
    return {f"BPF_FUNC_{name}": int(number) for name, number in numbered or ordered}


def count(body: str, known: Mapping[str, int]) -> dict[str, int]:
    """The members of an enum's body with C's counting; a value may use members before it, and `known` ones."""
    body = re.sub(r"^#.*$", "", body, flags=re.MULTILINE)
    members: dict[str, int] = {}
    following = 0
    for entry in filter(None, (part.strip() for part in body.split(","))):
        name, _, value = (piece.strip() for piece in entry.partition("="))
        members[name] = evaluate(value, {**known, **members}) if value else following
        following = members[name] + 1
    return members


def flag_definitions(code: str, known: Mapping[str, int]) -> dict[str, int]:
    """The BPF_F_ flags that are defined by the preprocessor; a macro with parameters counts as 0."""
    found: dict[str, int] = {}
    for name, parameters, value in re.findall(r"^#define[ \t]+(BPF_F_\w+)(\(\w+\))?[ \t]+(.+)$", code, re.MULTILINE):
        found[name] = 0 if parameters else evaluate(value.strip(), known)
    return found


BINARY = {ast.LShift: operator.lshift, ast.BitOr: operator.or_, ast.Sub: operator.sub}


def evaluate(expression: str, known: Mapping[str, int]) -> int:
    """The value of a constant expression of C, as far as the header uses them."""
    without_suffixes = re.sub(r"\b(0x[0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", " ".join(expression.split()))

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name) if name in known:
                return known[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                return int(BINARY[type(op)](value(left), value(right)))
        raise SystemExit(f"generate_uapi: cannot evaluate {expression!r}: teach evaluate() what it means")

    return value(ast.parse(without_suffixes, mode="eval").body)


def declarations(text: str) -> list[str]:
    """The helpers' C declarations in the header's documentation, in the order of their numbers."""
    _, _, documentation = text.partition("Start of BPF helper function descriptions:")
    found = re.findall(r"^ \* (\w.*[ *](bpf_\w+)\(.*\))$", documentation, re.MULTILINE)
    order = [name.replace("BPF_FUNC_", "bpf_") for name in helper_ids(text)]
    return [" ".join(line.split()) for line, _ in sorted(found, key=lambda each: order.index(each[1]))]


def sources() -> set[str]:
    """All that the tables name of the header."""
    return {source for module in MODULES for enumeration in module.enumerations for source in enumeration.sources}


def missing_from(header: Header) -> set[str]:
    """What the tables name and this header lacks."""
    return {source for source in sources() if source not in header.enums and not header.constant(source)}


def new_in(header: Header) -> set[str]:
    """Enums and flags of this header that the tables do not name."""
    return {*header.enums, *header.defines} - sources() - NOT_TAKEN


def check_complete(header: Header) -> None:
    """Refuse a header that the tables do not fit."""
    if missing := missing_from(header):
        raise SystemExit(f"generate_uapi: not in this header: {', '.join(sorted(missing))}: is it an old one?")
    if new := new_in(header):
        raise SystemExit(f"generate_uapi: in no table: {', '.join(sorted(new))}: add each to MODULES or NOT_TAKEN")


def docstring(text: str, version: str) -> str:
    """The docstring of a generated module."""
    return f'"""{text}.\n\nGenerated by tools/generate_uapi.py from linux/bpf.h of {version}; do not edit.\n"""\n'


def module_text(module: Module, header: Header, version: str) -> str:
    """The source of a module of enums."""
    bases = ", ".join(sorted({enumeration.base for enumeration in module.enumerations}))
    parts = [docstring(module.text, version), f"\nfrom enum import {bases}\n"]
    for enumeration in module.enumerations:
        style = "0x{:X}" if enumeration.base == "IntFlag" else "{}"
        found = header.members(enumeration)
        members = "".join(f"    {name} = {style.format(number)}\n" for name, number in found.items())
        parts.append(f'\n\nclass {enumeration.name}({enumeration.base}):\n    """{enumeration.text}"""\n\n{members}')
    return "".join(parts)


def package_text(version: str) -> str:
    """The source of the package itself: what is where, loaded when it is asked for."""
    where = sorted((each.name, module.name) for module in MODULES for each in module.enumerations)
    imports = "".join(import_text(module) for module in sorted(MODULES, key=lambda module: module.name))
    exported = "".join(f'    "{name}",\n' for name, _ in where)
    modules = "".join(f'    "{name}": "{module}",\n' for name, module in where)
    text = (
        "Numbers of uapi linux/bpf.h: an enum costs its module's import when it is first used (PEP 562).\n\n"
        "Members are named as in the header, without the prefix that all of an enum share. Helpers' prototypes are in\n"
        "`pybpfasm.uapi.prototypes`"
    )
    return (
        docstring(text, version)
        + "\nfrom importlib import import_module\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n"
        + indent(imports, "    ")
        + f"\n__all__ = [\n{exported}]\n\n_MODULES = {{\n{modules}}}\n"
        + LAZY_LOADING
    )


# Out of a type checker's sight: to it, a module with __getattr__ has every name.
LAZY_LOADING = '''
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load the module that has the name, and keep what it has."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """The public names, loaded or not."""
        return __all__
'''


def import_text(module: Module) -> str:
    """One import statement, laid out as the formatter does below an `if`."""
    names = sorted((enumeration.name for enumeration in module.enumerations), key=str.lower)
    line = f"from pybpfasm.uapi.{module.name} import {', '.join(names)}\n"
    if len(line) + 4 <= LINE_LENGTH:
        return line
    return f"from pybpfasm.uapi.{module.name} import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"


def table_text(lines: list[str], version: str) -> str:
    """The source of the table of prototypes."""
    text = "The helpers' C declarations, in the order of their numbers; `prototypes.py` reads them"
    table = "\n".join(lines)
    return f'{docstring(text, version)}\nDECLARATIONS = """\n{table}\n"""\n'


def generate(text: str, version: str) -> dict[str, str]:
    """The generated files' names and their texts."""
    header = read_header(text)
    check_complete(header)
    files = {f"{module.name}.py": module_text(module, header, version) for module in MODULES}
    return {**files, "declarations.py": table_text(declarations(text), version), "__init__.py": package_text(version)}


def read_given(path: Path) -> tuple[str, str]:
    """A header's text and the version that linux/version.h beside it tells."""
    code = re.search(r"LINUX_VERSION_CODE (\d+)", (path.parent / "version.h").read_text())
    if code is None:
        raise SystemExit(f"generate_uapi: {path.parent / 'version.h'} has no LINUX_VERSION_CODE")
    number = int(code[1])
    return path.read_text(), f"Linux {number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"


def fetch() -> tuple[str, str]:
    """The newest header of Debian, and the version of its package."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        suite = Suite(SUITE, "amd64", directory / "apt")
        suite.update()
        version = suite.field(PACKAGE, "Version")
        (directory / "download").mkdir()
        suite.unpack([PACKAGE], directory / "download", directory / "root")
        header = (directory / "root" / "usr" / "include" / "linux" / "bpf.h").read_text()
    return header, f"Debian's {PACKAGE} {version}"


def main() -> None:
    """Generate the tables."""
    try:
        text, version = read_given(Path(sys.argv[1])) if len(sys.argv) > 1 else fetch()
    except OSError as error:
        raise SystemExit(f"generate_uapi: cannot read {error.filename}: {error.strerror}") from None
    except VmError as error:
        raise SystemExit(f"generate_uapi: {error}") from None
    TARGET.mkdir(exist_ok=True)
    for name, content in generate(text, version).items():
        (TARGET / name).write_text(content)


if __name__ == "__main__":
    main()
