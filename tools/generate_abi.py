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
    uint32_t map_ifindex, btf_fd, btf_key_type_id, btf_value_type_id, btf_vmlinux_value_type_id;
    uint64_t map_extra;
    int32_t value_type_btf_obj_fd, map_token_fd;
    uint64_t excl_prog_hash;
    uint32_t excl_prog_hash_size;
};
struct map_elem {
    uint32_t map_fd, pad;
    uint64_t key, value_or_next_key, flags;
};
struct map_batch {
    uint64_t in_batch, out_batch, keys, values;
    uint32_t count, map_fd;
    uint64_t elem_flags, flags;
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
    uint32_t line_info_cnt, attach_btf_id, attach_prog_or_btf_fd, core_relo_cnt;
    uint64_t fd_array, core_relos;
    uint32_t core_relo_rec_size, log_true_size;
    int32_t prog_token_fd;
    uint32_t fd_array_cnt;
};
struct obj {
    uint64_t pathname;
    uint32_t bpf_fd, file_flags;
    int32_t path_fd;
};
struct prog_attach {
    uint32_t target_fd, attach_bpf_fd, attach_type, attach_flags, replace_bpf_fd, relative_fd_or_id;
    uint64_t expected_revision;
};
struct prog_test_run {
    uint32_t prog_fd, retval, data_size_in, data_size_out;
    uint64_t data_in, data_out;
    uint32_t repeat, duration, ctx_size_in, ctx_size_out;
    uint64_t ctx_in, ctx_out;
    uint32_t flags, cpu, batch_size;
};
struct prog_query {
    uint32_t target_fd, attach_type, query_flags, attach_flags;
    uint64_t prog_ids;
    uint32_t count, pad;
    uint64_t prog_attach_flags, link_ids, link_attach_flags, revision;
};
struct raw_tracepoint_open {
    uint64_t name;
    uint32_t prog_fd, pad;
    uint64_t cookie;
};
struct link_create {
    uint32_t prog_fd, target_fd, attach_type, flags;
    union {
        uint32_t target_btf_id;
        struct { uint64_t info; uint32_t info_len; } iter;
        struct { uint64_t cookie; } perf_event;
        struct { uint32_t flags, cnt; uint64_t syms, addrs, cookies; } kprobe_multi;
        struct { uint32_t target_btf_id, pad; uint64_t cookie; } tracing;
        struct { uint32_t pf, hooknum; int32_t priority; uint32_t flags; } netfilter;
        struct { uint32_t relative_fd_or_id, pad; uint64_t expected_revision; } mprog;
        struct { uint64_t path, offsets, ref_ctr_offsets, cookies; uint32_t cnt, flags, pid; } uprobe_multi;
    };
};
struct link_update {
    uint32_t link_fd, new_prog_or_map_fd, flags, old_prog_or_map_fd;
};
struct link_detach {
    uint32_t link_fd;
};
struct iter_create {
    uint32_t link_fd, flags;
};
struct enable_stats {
    uint32_t type;
};
struct prog_bind_map {
    uint32_t prog_fd, map_fd, flags;
};
struct task_fd_query {
    uint32_t pid, fd, flags, buf_len;
    uint64_t buf;
    uint32_t prog_id, fd_type;
    uint64_t probe_offset, probe_addr;
};
struct btf_load {
    uint64_t btf, btf_log_buf;
    uint32_t btf_size, btf_log_size, btf_log_level, btf_log_true_size, btf_flags;
    int32_t btf_token_fd;
};
struct info_by_fd {
    uint32_t bpf_fd, info_len;
    uint64_t info;
};
struct id {
    uint32_t id, next_id, open_flags;
    int32_t token_fd;
};
struct prog_info {
    uint32_t type, id;
    uint8_t tag[8];
    uint32_t jited_prog_len, xlated_prog_len;
    uint64_t jited_prog_insns, xlated_prog_insns, load_time;
    uint32_t created_by_uid, nr_map_ids;
    uint64_t map_ids;
    char name[16];
    uint32_t ifindex, gpl_compatible;
    uint64_t netns_dev, netns_ino;
    uint32_t nr_jited_ksyms, nr_jited_func_lens;
    uint64_t jited_ksyms, jited_func_lens;
    uint32_t btf_id, func_info_rec_size;
    uint64_t func_info;
    uint32_t nr_func_info, nr_line_info;
    uint64_t line_info, jited_line_info;
    uint32_t nr_jited_line_info, line_info_rec_size, jited_line_info_rec_size, nr_prog_tags;
    uint64_t prog_tags, run_time_ns, run_cnt, recursion_misses;
    uint32_t verified_insns, attach_btf_obj_id, attach_btf_id, pad;
};
struct map_info {
    uint32_t type, id, key_size, value_size, max_entries, map_flags;
    char name[16];
    uint32_t ifindex, btf_vmlinux_value_type_id;
    uint64_t netns_dev, netns_ino;
    uint32_t btf_id, btf_key_type_id, btf_value_type_id, btf_vmlinux_id;
    uint64_t map_extra, hash;
    uint32_t hash_size, pad;
};
struct btf_info {
    uint64_t btf;
    uint32_t btf_size, id;
    uint64_t name;
    uint32_t name_len, kernel_btf;
};
struct link_info {
    uint32_t type, id, prog_id, pad;
    union {
        struct { uint64_t tp_name; uint32_t tp_name_len, pad; uint64_t cookie; } raw_tracepoint;
        struct { uint32_t attach_type, target_obj_id, target_btf_id, pad; uint64_t cookie; } tracing;
        struct { uint64_t cgroup_id; uint32_t attach_type; } cgroup;
        struct {
            uint64_t target_name;
            uint32_t target_name_len, map_id;
            uint64_t cgroup_or_task;
            uint32_t order;
        } iter;
        struct { uint32_t netns_ino, attach_type; } netns;
        struct { uint32_t ifindex, attach_type; } device;
        struct { uint32_t map_id, attach_type; } sockmap;
        struct { uint32_t map_id; } struct_ops;
        struct { uint32_t pf, hooknum; int32_t priority; uint32_t flags; } netfilter;
        struct { uint64_t addrs; uint32_t count, flags; uint64_t missed, cookies; } kprobe_multi;
        struct {
            uint64_t path, offsets, ref_ctr_offsets, cookies;
            uint32_t path_size, count, flags, pid;
        } uprobe_multi;
        struct {
            uint32_t type, pad;
            uint64_t name;
            uint32_t name_len, offset;
            uint64_t more[3];
        } perf_event;
        uint8_t rest[96];
    };
};
struct perf_event_attr {
    uint32_t type, size;
    uint64_t config, sample_period, sample_type, read_format, flags;
    uint32_t wakeup, bp_type;
    uint64_t config1, config2, branch_sample_type, sample_regs_user;
    uint32_t sample_stack_user;
    int32_t clockid;
    uint64_t sample_regs_intr;
    uint32_t aux_watermark;
    uint16_t sample_max_stack, reserved;
    uint32_t aux_sample_size, aux_action;
    uint64_t sig_data, config3;
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
