/* The twin of programs/connect.py. */
#include "maps.h"

#define OUT_PORT 15001

#define PASS 1
#define REFUSE 0

#define IPPROTO_TCP 6
#define IN_LOOPBACKNET 127

static __always_inline struct pod_info *caller_in_mesh(struct bpf_sock_addr *ctx)
{
	struct pod_info *pod;
	__u64 id;

	if (ctx->protocol != IPPROTO_TCP)
		return NULL;
	id = bpf_get_netns_cookie(ctx);
	pod = bpf_map_lookup_elem(&netns_info_map, &id);
	if (!pod) {
		id = bpf_get_current_cgroup_id();
		pod = bpf_map_lookup_elem(&cgroup_info_map, &id);
		if (!pod)
			return NULL;
	}
	if (!(pod->flags & IN_MESH))
		return NULL;
	return pod;
}

static __always_inline int stays_in_pod(__be32 to, struct pod_info *pod)
{
	return bpf_ntohl(to) >> 24 == IN_LOOPBACKNET || to == pod->ip4 || to == 0;
}

/* ztunnel's address, or 0: to be refused. */
static __always_inline __be32 address_instead(struct bpf_sock_addr *ctx, __be32 to, struct pod_info *pod)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct socket_state *state;

	if (!ztunnel) {
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
	state->pod_ip4 = pod->ip4;
	state->ztunnel_ip4 = ztunnel->ip4;
	state->ztunnel_netns = ztunnel->netns_cookie;
	count(REDIRECTED);
	return ztunnel->ip4;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct pod_info *pod = caller_in_mesh(ctx);
	__be32 instead;

	if (!pod)
		return PASS;
	if (stays_in_pod(ctx->user_ip4, pod))
		return PASS;
	instead = address_instead(ctx, ctx->user_ip4, pod);
	if (!instead)
		return REFUSE;
	ctx->user_ip4 = instead;
	ctx->user_port = bpf_htons(OUT_PORT);
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
	struct pod_info *pod = caller_in_mesh(ctx);
	__be32 instead;

	if (!pod)
		return PASS;
	if (stays_local(ctx))
		return PASS;
	if (!is_v4_mapped(ctx)) {
		count(REFUSED_IPV6);
		return REFUSE;
	}
	if (stays_in_pod(ctx->user_ip6[3], pod))
		return PASS;
	instead = address_instead(ctx, ctx->user_ip6[3], pod);
	if (!instead)
		return REFUSE;
	ctx->user_ip6[3] = instead;
	ctx->user_port = bpf_htons(OUT_PORT);
	return PASS;
}

char _license[] SEC("license") = "GPL";
