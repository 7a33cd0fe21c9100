/* The twin of programs/connect.py. */
#include "dns.h"
#include "slots.h"

#define OUT_PORT 15001
#define IN_PORT 15006
#define HBONE_PORT 15008

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

static __always_inline int is_exempt(void)
{
	__u64 id = bpf_get_current_cgroup_id();
	struct pod_info *group = bpf_map_lookup_elem(&cgroup_info_map, &id);

	return group && group->flags & EXEMPT;
}

static __always_inline int is_for_pod(struct address *to)
{
	return bpf_map_lookup_elem(&mesh_pods, to) && !is_exempt();
}

static __always_inline __be16 port_instead(struct bpf_sock_addr *ctx, __u32 enrolled)
{
	if (enrolled & DNS && ctx->user_port == bpf_htons(NAMES_PORT))
		return bpf_htons(DNS_PORT);
	if (enrolled)
		return bpf_htons(OUT_PORT);
	return ctx->user_port == bpf_htons(HBONE_PORT) ? bpf_htons(HBONE_PORT) : bpf_htons(IN_PORT);
}

static __always_inline int is_ztunnels_port(struct bpf_sock_addr *ctx)
{
	return ctx->user_port == bpf_htons(OUT_PORT) || ctx->user_port == bpf_htons(DNS_PORT);
}

static __always_inline struct call *call_of(struct bpf_sock_addr *ctx)
{
	struct call *call = taken_for_call(bpf_get_socket_cookie(ctx));
	struct socket_state *state;

	if (call) {
		state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, 0);
		if (state) {
			state->call.ztunnel.port = 0;
			state->client = 0;
		}
		return call;
	}
	state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	return state ? &state->call : NULL;
}

static __always_inline void keep(struct bpf_sock_addr *ctx, struct call *call, struct address *to, __u32 enrolled,
				 struct ztunnel *ztunnel)
{
	__be16 port;

	call->original.ip = *to;
	call->original.port = ctx->user_port;
	call->enrolled = enrolled;
	call->ztunnel_netns = ztunnel->netns_cookie;
	port = port_instead(ctx, enrolled);
	call->ztunnel.port = port;
	call->ztunnel.family = 0;
	ctx->user_port = port;
	call_filled(bpf_get_socket_cookie(ctx));
	count(enrolled ? REDIRECTED : REDIRECTED_TO_POD);
}

static __always_inline int redirected4(struct bpf_sock_addr *ctx, struct address *to, __u32 enrolled,
				       struct pod_info *caller, int v4_mapped)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct call *call;

	if (!ztunnel)
		return without_ztunnel();
	if (!ztunnel->ip4) {
		count(REFUSED_NO_ADDRESS);
		return REFUSE;
	}
	if (to->w[3] == ztunnel->ip4 && is_ztunnels_port(ctx))
		return PASS;
	call = call_of(ctx);
	if (!call) {
		count(REFUSED_NO_MEMORY);
		return REFUSE;
	}
	call->original.family = AF_INET;
	call->ztunnel.ip = (struct address){ { 0, 0, V4_MAPPED, ztunnel->ip4 } };
	call->pod = (struct address){ { 0, 0, V4_MAPPED, caller->ip4 } };
	if (v4_mapped)
		ctx->user_ip6[3] = ztunnel->ip4;
	else
		ctx->user_ip4 = ztunnel->ip4;
	keep(ctx, call, to, enrolled, ztunnel);
	return PASS;
}

static __always_inline int redirected6(struct bpf_sock_addr *ctx, struct address *to, __u32 enrolled,
				       struct pod_info *caller)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct call *call;

	if (!ztunnel)
		return without_ztunnel();
	if (!ztunnel->ip6.w[0]) {
		count(REFUSED_NO_ADDRESS);
		return REFUSE;
	}
	if (is_ztunnels_port(ctx) && is_same(to, &ztunnel->ip6))
		return PASS;
	call = call_of(ctx);
	if (!call) {
		count(REFUSED_NO_MEMORY);
		return REFUSE;
	}
	call->original.family = AF_INET6;
	call->ztunnel.ip = ztunnel->ip6;
	call->pod = caller->ip6;
	ctx->user_ip6[0] = ztunnel->ip6.w[0];
	ctx->user_ip6[1] = ztunnel->ip6.w[1];
	ctx->user_ip6[2] = ztunnel->ip6.w[2];
	ctx->user_ip6[3] = ztunnel->ip6.w[3];
	keep(ctx, call, to, enrolled, ztunnel);
	return PASS;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller;
	struct address to = { { 0, 0, V4_MAPPED, 0 } };
	__u32 enrolled;

	if (ctx->protocol != IPPROTO_TCP)
		return ctx->protocol == IPPROTO_UDP ? asks4(ctx, 1) : PASS;
	caller = caller_of(ctx);
	if (!caller)
		return PASS;
	enrolled = caller->flags & (IN_MESH | DNS);
	to.w[3] = ctx->user_ip4;
	if (enrolled) {
		if (stays_in_pod(to.w[3], caller))
			return PASS;
	} else if (!is_for_pod(&to)) {
		return PASS;
	}
	return redirected4(ctx, &to, enrolled, caller, 0);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller;
	struct address to;
	__u32 enrolled;
	int mapped;

	if (ctx->protocol != IPPROTO_TCP)
		return ctx->protocol == IPPROTO_UDP ? asks6(ctx, 1) : PASS;
	caller = caller_of(ctx);
	if (!caller)
		return PASS;
	enrolled = caller->flags & (IN_MESH | DNS);
	to = (struct address){ { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
	mapped = is_v4_mapped(&to);
	if (enrolled) {
		if (mapped ? stays_in_pod(to.w[3], caller) : stays_in_pod6(&to, caller))
			return PASS;
	} else if (!is_for_pod(&to)) {
		return PASS;
	}
	if (mapped)
		return redirected4(ctx, &to, enrolled, caller, 1);
	return redirected6(ctx, &to, enrolled, caller);
}

char _license[] SEC("license") = "GPL";
