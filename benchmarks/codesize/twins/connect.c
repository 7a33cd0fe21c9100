/* The twin of programs/connect.py. */
#include "maps.h"

#define OUT_PORT 15001
#define IN_PORT 15006
#define HBONE_PORT 15008

#define FAIL_OPEN 0

#define PASS 1
#define REFUSE 0

#define IPPROTO_TCP 6
#define IN_LOOPBACKNET 127

static __always_inline struct pod_info *caller_by_tcp(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller;
	__u64 id;

	if (ctx->protocol != IPPROTO_TCP)
		return NULL;
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

static __always_inline int stays_in_pod(__be32 to, struct pod_info *pod)
{
	return bpf_ntohl(to) >> 24 == IN_LOOPBACKNET || to == pod->ip4 || to == 0;
}

static __always_inline int is_exempt(void)
{
	__u64 id = bpf_get_current_cgroup_id();
	struct pod_info *group = bpf_map_lookup_elem(&cgroup_info_map, &id);

	return group && group->flags & EXEMPT;
}

static __always_inline int is_redirected(__be32 to, __u32 enrolled, struct pod_info *caller)
{
	if (enrolled)
		return !stays_in_pod(to, caller);
	return bpf_map_lookup_elem(&mesh_pods, &to) && !is_exempt();
}

static __always_inline __be16 port_instead(struct bpf_sock_addr *ctx, __u32 enrolled)
{
	if (enrolled)
		return bpf_htons(OUT_PORT);
	return ctx->user_port == bpf_htons(HBONE_PORT) ? bpf_htons(HBONE_PORT) : bpf_htons(IN_PORT);
}

/* ztunnel's address, its port is set; 0: to be refused; the same address: it goes there. */
static __always_inline __be32 address_instead(struct bpf_sock_addr *ctx, __be32 to, __u32 enrolled,
					      struct pod_info *caller)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct socket_state *state;
	__be16 port;

	if (!ztunnel) {
		if (FAIL_OPEN) {
			count(PASSED_NO_ZTUNNEL);
			return to;
		}
		count(REFUSED_NO_ZTUNNEL);
		return 0;
	}
	if (to == ztunnel->ip4 && ctx->user_port == bpf_htons(OUT_PORT))
		return to;
	state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count(REFUSED_NO_MEMORY);
		return 0;
	}
	state->original.ip4 = to;
	state->original.port = ctx->user_port;
	state->pod_ip4 = caller->ip4;
	state->ztunnel.ip4 = ztunnel->ip4;
	state->ztunnel_netns = ztunnel->netns_cookie;
	port = port_instead(ctx, enrolled);
	state->ztunnel.port = port;
	ctx->user_port = port;
	count(enrolled ? REDIRECTED : REDIRECTED_TO_POD);
	return ztunnel->ip4;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller = caller_by_tcp(ctx);
	__be32 instead;
	__u32 enrolled;

	if (!caller)
		return PASS;
	enrolled = caller->flags & IN_MESH;
	if (!is_redirected(ctx->user_ip4, enrolled, caller))
		return PASS;
	instead = address_instead(ctx, ctx->user_ip4, enrolled, caller);
	if (!instead)
		return REFUSE;
	if (FAIL_OPEN && instead == ctx->user_ip4)
		return PASS;
	ctx->user_ip4 = instead;
	return PASS;
}

static __always_inline int stays_local(struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && !ctx->user_ip6[2] && bpf_ntohl(ctx->user_ip6[3]) <= 1;
}

static __always_inline int is_v4_mapped(struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && ctx->user_ip6[2] == bpf_htonl(0xffff);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller = caller_by_tcp(ctx);
	__be32 instead;
	__u32 enrolled;

	if (!caller)
		return PASS;
	if (stays_local(ctx))
		return PASS;
	if (!is_v4_mapped(ctx)) {
		if (!(caller->flags & IN_MESH))
			return PASS;
		count(REFUSED_IPV6);
		return REFUSE;
	}
	enrolled = caller->flags & IN_MESH;
	if (!is_redirected(ctx->user_ip6[3], enrolled, caller))
		return PASS;
	instead = address_instead(ctx, ctx->user_ip6[3], enrolled, caller);
	if (!instead)
		return REFUSE;
	if (FAIL_OPEN && instead == ctx->user_ip6[3])
		return PASS;
	ctx->user_ip6[3] = instead;
	return PASS;
}

char _license[] SEC("license") = "GPL";
