"""Write pybpfasm/kernel/_abi.py: the system calls and structures of pybpfasm.kernel, in cffi's out-of-line ABI form.

No C compiler takes part: cffi turns the declarations into a Python module. Run it after a change to the declarations:

    python tools/generate_abi.py

Sources: include/uapi/linux/bpf.h (union bpf_attr, one structure a command here), setns(2), unshare(2), mount(2).
"""

import sys
from pathlib import Path

import cffi

TARGET = Path(__file__).parent.parent / "pybpfasm" / "kernel" / "_abi.py"

DECLARATIONS = """
struct statfs_buffer {
    long type;
    long rest[31];
};
long syscall(long number, ...);
int setns(int fd, int nstype);
int unshare(int flags);
int mount(const char *source, const char *target, const char *fstype, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
int statfs(const char *path, struct statfs_buffer *buffer);

struct map_create {
    uint32_t map_type, key_size, value_size, max_entries, map_flags, inner_map_fd, numa_node;
    char map_name[16];
    uint32_t map_ifindex, btf_fd, btf_key_type_id, btf_value_type_id;
};
struct map_elem {
    uint32_t map_fd, pad;
    uint64_t key, value_or_next_key, flags;
};
struct prog_load {
    uint32_t prog_type, insn_cnt;
    uint64_t insns, license;
    uint32_t log_level, log_size;
    uint64_t log_buf;
    uint32_t kern_version, prog_flags;
    char prog_name[16];
    uint32_t prog_ifindex, expected_attach_type, prog_btf_fd, func_info_rec_size;
    uint64_t func_info;
    uint32_t func_info_cnt, line_info_rec_size;
    uint64_t line_info;
    uint32_t line_info_cnt, attach_btf_id;
};
struct obj {
    uint64_t pathname;
    uint32_t bpf_fd, file_flags;
};
struct prog_attach {
    uint32_t target_fd, attach_bpf_fd, attach_type, attach_flags, replace_bpf_fd;
};
struct link_create {
    uint32_t prog_fd, target_fd, attach_type, flags;
};
struct link_update {
    uint32_t link_fd, new_prog_fd, flags, old_prog_fd;
};
struct link_detach {
    uint32_t link_fd;
};
struct btf_load {
    uint64_t btf, btf_log_buf;
    uint32_t btf_size, btf_log_size, btf_log_level;
};
struct info_by_fd {
    uint32_t bpf_fd, info_len;
    uint64_t info;
};
struct id {
    uint32_t id, next_id, open_flags;
};
struct prog_info {
    uint32_t type, id;
    uint8_t tag[8];
    uint32_t jited_prog_len, xlated_prog_len;
    uint64_t jited_prog_insns, xlated_prog_insns, load_time;
    uint32_t created_by_uid, nr_map_ids;
    uint64_t map_ids;
    char name[16];
};
struct map_info {
    uint32_t type, id, key_size, value_size, max_entries, map_flags;
    char name[16];
};
struct link_info {
    uint32_t type, id, prog_id, pad;
    union {
        struct { uint64_t cgroup_id; uint32_t attach_type; } cgroup;
        struct { uint32_t map_id, attach_type; } sockmap;
    };
    uint8_t rest[64];
};
"""


def main() -> None:
    """Write the module to its place, or to the file given."""
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source("pybpfasm.kernel._abi", None)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    ffi.emit_python_code(str(target))


if __name__ == "__main__":
    main()
