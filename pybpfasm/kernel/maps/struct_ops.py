"""struct_ops maps: one value, the kernel's own struct around a table of functions, which are programs.

A map for `struct tcp_congestion_ops` has values of the kernel's `struct bpf_struct_ops_tcp_congestion_ops`: a few
words of state, then the table as this kernel has it. The programs are filled in and registered by
`pybpfasm.kernel.links`.
"""

import os

from pybpfasm import btf, isa
from pybpfasm.errors import BpfError
from pybpfasm.kernel import sys
from pybpfasm.kernel.btf_objects import vmlinux
from pybpfasm.spec import MapSpec, Untyped
from pybpfasm.uapi import Command, ProgramType

# STRUCT_OPS_VALUE_PREFIX in include/linux/bpf.h.
VALUE_PREFIX = "bpf_struct_ops_"


def struct_ops_value(spec: MapSpec) -> btf.Type:
    """The kernel's type of a map's value; `spec.value` is the table (`struct NAME`) or the value around it.

    Raises `BpfError` for a table that the running kernel does not have; those of modules are not looked for.
    """
    return vmlinux().value_type(struct_ops_type_id(spec))


def struct_ops_type_id(spec: MapSpec) -> int:
    """The id of that type in vmlinux."""
    attempted = f"cannot create map {spec.name}"
    name = "" if isinstance(spec.value, Untyped) else getattr(spec.value, "name", "")
    if not name:
        raise BpfError(f"{attempted}: the value of a struct_ops map is a struct with the name of the kernel's")
    table = name.removeprefix(VALUE_PREFIX)
    try:
        return vmlinux().find(VALUE_PREFIX + table, btf.Kind.STRUCT)
    except btf.NotFoundError:
        raise BpfError(f"{attempted}: this kernel has no struct_ops table {table}") from None


def have_kernel_read_its_types() -> None:
    """Load and drop a program, the smallest there is.

    Older kernels (5.10) read their own types with the first program, and know no struct_ops before (bpf_check).
    """
    code, license_ = sys.buffer(isa.encode((isa.mov_imm(0, 0), isa.exit_program()))), sys.buffer(b"GPL\0")
    attributes = sys.new(
        "prog_load",
        prog_type=ProgramType.SOCKET_FILTER,
        insn_cnt=2,
        insns=sys.address(code),
        license=sys.address(license_),
    )
    os.close(sys.bpf(Command.PROG_LOAD, attributes, "load a program"))
