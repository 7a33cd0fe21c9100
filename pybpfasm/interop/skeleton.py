"""A C header that holds an object and opens it by libbpf, for C programs that load what was compiled here.

    struct NAME *NAME__open(void)          NULL and errno on failure, as libbpf has it
    int NAME__load(struct NAME *)          0 or a negative errno; maps may be resized, programs left out before
    void NAME__destroy(struct NAME *)

Members are the libbpf objects: `skeleton->maps.counters`, `skeleton->programs.connect4`. Needs libbpf 1.0 or later.
"""

import re

from pybpfasm.errors import BpfError
from pybpfasm.spec import CollectionSpec

_BYTES_A_LINE = 16

# What C keeps for itself (ISO C17, 6.4.1), which a map or a program may well be called.
_KEYWORDS = re.compile(
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register|"
    "restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while"
)


def c_skeleton(collection: CollectionSpec, image: bytes, name: str) -> str:
    """The header, for the object `image` of the collection.

    Raises `BpfError` if `name` is no identifier of C, or two maps or programs would have one name there.
    """
    if identifier(name) != name:
        raise BpfError(
            f"{name!r} cannot name a C skeleton: letters, digits and _ can, a letter first: {identifier(name)}"
        )
    maps = _members(collection.maps)
    programs = _members(collection.programs)
    guard = f"{name.upper()}_SKELETON_H"
    finds = [_FIND.format("maps", member, "map", each) for member, each in maps]
    finds += [_FIND.format("programs", member, "program", each) for member, each in programs]
    return _TEMPLATE.format(
        guard=guard,
        name=name,
        maps=_struct("bpf_map", "maps", maps),
        programs=_struct("bpf_program", "programs", programs),
        finds="\n".join(finds),
        image=_bytes(image),
    )


def identifier(name: str) -> str:
    """The name as C can have it: other characters become `_`."""
    changed = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not changed or changed[0].isdigit() or _KEYWORDS.fullmatch(changed):
        changed = f"_{changed}"
    return changed


def _members(names: object) -> list[tuple[str, str]]:
    members: dict[str, str] = {}
    for each in names:  # type: ignore[attr-defined]  # a mapping's names
        other = members.setdefault(identifier(each), each)
        if other != each:
            raise BpfError(f"{other} and {each} would have one name in C: rename one of them")
    return list(members.items())


def _struct(kind: str, name: str, members: list[tuple[str, str]]) -> str:
    if not members:
        return ""
    listed = "".join(f"\t\tstruct {kind} *{member};\n" for member, _ in members)
    return f"\tstruct {{\n{listed}\t}} {name};\n"


def _bytes(image: bytes) -> str:
    lines = (image[start : start + _BYTES_A_LINE] for start in range(0, len(image), _BYTES_A_LINE))
    return "\n".join("\t" + " ".join(f"{byte:#04x}," for byte in line) for line in lines)


_FIND = '\tskeleton->{}.{} = bpf_object__find_{}_by_name(skeleton->object, "{}");'

_TEMPLATE = """\
/* Made by pybpfasm; do not edit. */
#ifndef {guard}
#define {guard}

#include <errno.h>
#include <stdlib.h>
#include <bpf/libbpf.h>

struct {name} {{
\tstruct bpf_object *object;
{maps}{programs}}};

static const unsigned char {name}__image[] __attribute__((aligned(8))) = {{
{image}
}};

static inline void {name}__destroy(struct {name} *skeleton)
{{
\tif (!skeleton)
\t\treturn;
\tbpf_object__close(skeleton->object);
\tfree(skeleton);
}}

static inline struct {name} *{name}__open(void)
{{
\tLIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "{name}");
\tstruct {name} *skeleton = (struct {name} *)calloc(1, sizeof(*skeleton));

\tif (!skeleton)
\t\treturn NULL;
\tskeleton->object = bpf_object__open_mem({name}__image, sizeof({name}__image), &options);
\tif (!skeleton->object) {{
\t\tint reason = errno;

\t\tfree(skeleton);
\t\terrno = reason;
\t\treturn NULL;
\t}}
{finds}
\treturn skeleton;
}}

static inline int {name}__load(struct {name} *skeleton)
{{
\treturn bpf_object__load(skeleton->object);
}}

#endif
"""
