/* The maps of programs/maps.py. */
#pragma once

#include "bpf.h"

#define IN_MESH 1
#define DNS 2
#define IS_HOST 8
#define EXEMPT 16

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d; :: is none. */
struct address {
	__be32 w[4];
};

#define V4_MAPPED bpf_htonl(0xffff)

struct pod_info {
	__u32 flags;
	__be32 ip4;
	struct address ip6;
};

struct ztunnel {
	__u64 netns_cookie;
	__be32 ip4;
	struct address ip6;
};

struct endpoint {
	struct address ip;
	__be16 port;
	__u16 family;
};

struct mesh_pod {
	__u32 flags;
};

struct connection {
	__u64 netns_cookie;
	struct address client;
	struct address server;
	__u16 client_port;
	__u16 server_port;
};

struct origin {
	struct endpoint original;
	__u64 client;
	__u64 netns_cookie;
};

struct share {
	__u64 used;
};

#define CLIENT 0
#define ACCEPTING 1

struct call {
	struct endpoint original;
	__u32 enrolled;
	struct endpoint ztunnel;
	struct address pod;
	__u64 ztunnel_netns;
};

struct pending {
	__u64 owner;
	struct call call;
};

struct direction {
	__u32 by_tcp;
	__u32 redirected;
};

struct slot {
	__u64 owner;
	struct connection connection;
	__u64 netns_cookie;
	struct endpoint original;
	__u64 joined;
	__u64 spliced;
	__u64 accepted;
	__u64 answered;
	__u64 released;
	struct direction requests;
	struct direction answers;
};

struct socket_state {
	struct call call;
	struct endpoint original;
	__u32 side;
	__u64 client;
};

#define QUESTIONS 8

struct questions {
	struct address servers[QUESTIONS];
	__u64 first;
	__u64 next;
	__u64 at;
	struct address ztunnel;
};

struct dns_state {
	struct questions ip4;
	struct questions ip6;
	struct endpoint connected;
};

enum count {
	REDIRECTED,
	REFUSED_NO_ZTUNNEL,
	REFUSED_NO_MEMORY,
	REFUSED_NO_ADDRESS,
	ORIGINAL_DST_FULL,
	FOREIGN_SOURCE,
	SPLICED,
	REDIRECTED_TO_POD,
	PASSED_NO_ZTUNNEL,
	STEERED,
	DROPPED_NO_ZTUNNEL,
	DROPPED_DIRECT,
	DNS_REDIRECTED,
	SHARE_USED_UP,
	DROPPED_TAGGED,
	CROWDED,
	COUNTS,
};

#define ZTUNNEL 1

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct pod_info);
} netns_info_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct pod_info);
} cgroup_info_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct ztunnel);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct mesh_pod);
} mesh_pods SEC(".maps");

#define CALLS 1024
#define CONNECTIONS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CALLS);
	__type(key, __u32);
	__type(value, struct pending);
} pending SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CONNECTIONS);
	__type(key, __u32);
	__type(value, struct slot);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2 * CONNECTIONS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection);
	__type(value, struct origin);
} original_dst SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct share);
} shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_state);
} socket_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct dns_state);
} dns_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &what);

	if (counter)
		++*counter;
}

static __always_inline int is_same(const struct address *one, const struct address *other)
{
	return one->w[3] == other->w[3] && one->w[2] == other->w[2] && one->w[1] == other->w[1] &&
	       one->w[0] == other->w[0];
}

/* A context's address: one load a word, as the verifier refuses the wider ones that clang would make of two. */
static __always_inline struct address address_of(__u32 *words)
{
	return (struct address){ { READ_ONCE(words[0]), READ_ONCE(words[1]), READ_ONCE(words[2]), READ_ONCE(words[3]) } };
}
