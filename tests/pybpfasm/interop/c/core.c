/* CO-RE relocations of every kind, against types of the kernel. */
#include "bpf.h"

struct list_head {
	struct list_head *next, *prev;
} __core;

struct mm_struct {
	struct {
		u64 mmap_base;
	};
} __core;

struct task_struct {
	int pid; /* elsewhere in the kernel, and after the next */
	int tgid;
	struct mm_struct *mm;
	char comm[16];
	struct task_struct *real_parent;
	u32 frozen : 1; /* a bit field */
	u32 in_execve : 1;
	int no_such_field;
} __core;

struct task_struct___other {
	int exit_code;
	long no_such_field_either;
} __core;

struct sk_buff {
	u32 len;
	u16 protocol; /* a big-endian number there */
	u8 pkt_type : 3;
	u8 ip_summed : 2;
	char cb[48];
} __core;

/* narrower and wider than in the kernel */
struct sock_common {
	u64 skc_family;
	u8 skc_num;
	u32 skc_hash;
} __core;

struct sock {
	struct sock_common __sk_common;
	u32 sk_mark;
} __core;

struct no_such_struct {
	int x;
} __core;

typedef int pid_t;
typedef struct { int no; } no_such_typedef;

enum bpf_map_type {
	BPF_MAP_TYPE_UNSPEC_LOCAL = 77,
	BPF_MAP_TYPE_RINGBUF = 3, /* 27 in the kernel */
	BPF_MAP_TYPE_NONE_SUCH___x = 5,
} e;

enum btf_kind_local { A };

#define field(type, path, kind) __builtin_preserve_field_info(((type *)0)->path, kind)
#define exists(type) __builtin_preserve_type_info(*(type *)0, 0)
#define size_of(type) __builtin_preserve_type_info(*(type *)0, 1)
#define matches(type) __builtin_preserve_type_info(*(type *)0, 2)
#define local_id(type) __builtin_btf_type_id(*(type *)0, 0)
#define target_id(type) __builtin_btf_type_id(*(type *)0, 1)
#define enum_exists(type, name) __builtin_preserve_enum_value(*(typeof(type) *)name, 0)
#define enum_value(type, name) __builtin_preserve_enum_value(*(typeof(type) *)name, 1)

u64 out[64];

#define PUT(index, value) out[index] = (value)

SEC("raw_tracepoint/fields")
int fields(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	PUT(0, (u64)&task->pid - (u64)task);
	PUT(1, (u64)&task->comm[3] - (u64)task);
	PUT(2, field(struct task_struct, mm, 0));
	PUT(3, field(struct task_struct, comm, 1));
	PUT(4, field(struct task_struct, tgid, 2));
	PUT(5, field(struct task_struct, no_such_field, 2));
	PUT(6, field(struct task_struct, pid, 3));
	PUT(7, field(struct task_struct, pid, 4));
	PUT(8, field(struct task_struct, pid, 5));
	PUT(9, field(struct task_struct, in_execve, 0));
	PUT(10, field(struct task_struct, in_execve, 1));
	PUT(11, field(struct task_struct, in_execve, 3));
	PUT(12, field(struct task_struct, in_execve, 4));
	PUT(13, field(struct task_struct, in_execve, 5));
	PUT(14, field(struct sk_buff, pkt_type, 0));
	PUT(15, field(struct sk_buff, pkt_type, 4));
	PUT(16, field(struct sk_buff, ip_summed, 4));
	PUT(17, field(struct sk_buff, cb[5], 0));
	PUT(18, field(struct sk_buff, cb, 0));
	PUT(19, field(struct task_struct___other, exit_code, 0));
	PUT(20, field(struct task_struct___other, no_such_field_either, 2));
	PUT(21, field(struct mm_struct, mmap_base, 0));
	PUT(22, field(struct no_such_struct, x, 2));
	PUT(23, field(struct sock, __sk_common.skc_hash, 0));
	return 0;
}

SEC("raw_tracepoint/types")
int types(u64 *ctx)
{
	PUT(24, exists(struct task_struct));
	PUT(25, exists(struct no_such_struct));
	PUT(26, exists(pid_t));
	PUT(27, exists(no_such_typedef));
	PUT(28, size_of(struct task_struct));
	PUT(29, size_of(struct no_such_struct));
#if __clang_major__ >= 15
	PUT(30, matches(struct list_head));
	PUT(31, matches(struct task_struct));
	PUT(32, matches(struct sk_buff));
	PUT(36, matches(enum bpf_map_type));
#endif
	PUT(33, target_id(struct task_struct));
	PUT(34, local_id(struct task_struct));
	PUT(35, target_id(struct no_such_struct));
	return 0;
}

SEC("raw_tracepoint/enums")
int enums(u64 *ctx)
{
	PUT(37, enum_exists(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF));
	PUT(38, enum_exists(enum bpf_map_type, BPF_MAP_TYPE_UNSPEC_LOCAL));
	PUT(39, enum_value(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF));
	PUT(40, enum_exists(enum bpf_map_type, BPF_MAP_TYPE_NONE_SUCH___x));
	return 0;
}

/* What cannot be resolved must not run: here it is behind a test that is false then. */
SEC("raw_tracepoint/poisoned")
int poisoned(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	if (field(struct task_struct, no_such_field, 2))
		PUT(41, field(struct task_struct, no_such_field, 0));
	if (enum_exists(enum bpf_map_type, BPF_MAP_TYPE_UNSPEC_LOCAL))
		PUT(42, enum_value(enum bpf_map_type, BPF_MAP_TYPE_UNSPEC_LOCAL));
	return 0;
}

/* Loads and stores by pointers that the verifier knows (fentry): offset and width. */
SEC("fentry/tcp_close")
int direct(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	PUT(43, sk->sk_mark);
	PUT(44, sk->__sk_common.skc_family);
	PUT(45, sk->__sk_common.skc_num);
	PUT(46, sk->__sk_common.skc_hash);
	return 0;
}

char _license[] SEC("license") = "GPL";
