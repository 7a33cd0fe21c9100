/* The twin of programs/callers.py. */
#pragma once

#include "maps.h"

#define FAIL_OPEN 0

#define PASS 1
#define REFUSE 0

#define AF_INET 2
#define AF_INET6 10
#define IN_LOOPBACKNET 127

static __always_inline struct pod_info *caller_of(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller;
	__u64 id;

	id = bpf_get_netns_cookie(ctx);
	caller = bpf_map_lookup_elem(&netns_info_map, &id);
	if (!caller) {
		id = bpf_get_current_cgroup_id();
		caller = bpf_map_lookup_elem(&cgroup_info_map, &id);
		if (!caller)
			return NULL;
	}
	if (!(caller->flags & (IN_MESH | IS_HOST)))
		return NULL;
	return caller;
}

static __always_inline int is_v4_mapped(struct address *address)
{
	return !address->w[0] && !address->w[1] && address->w[2] == V4_MAPPED;
}

static __always_inline int stays_in_pod(__be32 to, struct pod_info *pod)
{
	return bpf_ntohl(to) >> 24 == IN_LOOPBACKNET || to == pod->ip4 || to == 0;
}

static __always_inline int stays_in_pod6(struct address *to, struct pod_info *pod)
{
	if (!to->w[0] && !to->w[1])
		return !to->w[2] && bpf_ntohl(to->w[3]) <= 1;
	return is_same(to, &pod->ip6);
}

static __always_inline int without_ztunnel(void)
{
	if (FAIL_OPEN) {
		count(PASSED_NO_ZTUNNEL);
		return PASS;
	}
	count(REFUSED_NO_ZTUNNEL);
	return REFUSE;
}
