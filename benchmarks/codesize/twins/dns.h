/* The twin of what programs/dns.py does when a socket is connected. */
#pragma once

#include "callers.h"

#define DNS_PORT 15053
#define NAMES_PORT 53

static __always_inline void forget_connection(struct bpf_sock_addr *ctx)
{
	struct dns_state *state = bpf_sk_storage_get(&dns_state, ctx->sk, NULL, 0);

	if (state)
		state->connected.port = 0;
}

static __always_inline void keep_question(struct dns_state *state, struct address *to, __u16 family)
{
	state->connected.ip = *to;
	state->connected.port = bpf_htons(NAMES_PORT);
	state->connected.family = family;
	count(DNS_REDIRECTED);
}

static __always_inline int question4(struct bpf_sock_addr *ctx, struct address *to, int v4_mapped)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct dns_state *state;

	if (!ztunnel)
		return without_ztunnel();
	if (!ztunnel->ip4) {
		count(REFUSED_NO_ADDRESS);
		return REFUSE;
	}
	state = bpf_sk_storage_get(&dns_state, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count(REFUSED_NO_MEMORY);
		return REFUSE;
	}
	keep_question(state, to, AF_INET);
	state->ztunnel.w[0] = 0;
	state->ztunnel.w[1] = 0;
	state->ztunnel.w[2] = V4_MAPPED;
	state->ztunnel.w[3] = ztunnel->ip4;
	if (v4_mapped)
		ctx->user_ip6[3] = ztunnel->ip4;
	else
		ctx->user_ip4 = ztunnel->ip4;
	ctx->user_port = bpf_htons(DNS_PORT);
	return PASS;
}

static __always_inline int question6(struct bpf_sock_addr *ctx, struct address *to)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct dns_state *state;

	if (!ztunnel)
		return without_ztunnel();
	if (!ztunnel->ip6.w[0]) {
		count(REFUSED_NO_ADDRESS);
		return REFUSE;
	}
	state = bpf_sk_storage_get(&dns_state, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count(REFUSED_NO_MEMORY);
		return REFUSE;
	}
	state->ztunnel = ztunnel->ip6;
	keep_question(state, to, AF_INET6);
	ctx->user_ip6[0] = ztunnel->ip6.w[0];
	ctx->user_ip6[1] = ztunnel->ip6.w[1];
	ctx->user_ip6[2] = ztunnel->ip6.w[2];
	ctx->user_ip6[3] = ztunnel->ip6.w[3];
	ctx->user_port = bpf_htons(DNS_PORT);
	return PASS;
}

static __always_inline int asks4(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller;
	struct address to = { { 0, 0, V4_MAPPED, 0 } };

	if (ctx->user_port != bpf_htons(NAMES_PORT)) {
		forget_connection(ctx);
		return PASS;
	}
	caller = caller_of(ctx);
	if (!caller)
		return PASS;
	to.w[3] = ctx->user_ip4;
	if (!(caller->flags & DNS) || stays_in_pod(to.w[3], caller))
		return PASS;
	return question4(ctx, &to, 0);
}

static __always_inline int asks6(struct bpf_sock_addr *ctx)
{
	struct pod_info *caller;
	struct address to;

	if (ctx->user_port != bpf_htons(NAMES_PORT)) {
		forget_connection(ctx);
		return PASS;
	}
	caller = caller_of(ctx);
	if (!caller)
		return PASS;
	if (!(caller->flags & DNS))
		return PASS;
	to = (struct address){ { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
	if (is_v4_mapped(&to))
		return stays_in_pod(to.w[3], caller) ? PASS : question4(ctx, &to, 1);
	return stays_in_pod6(&to, caller) ? PASS : question6(ctx, &to);
}
