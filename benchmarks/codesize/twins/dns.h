/* The twin of what programs/dns.py does when a socket sends or is connected. */
#pragma once

#include "callers.h"

#define DNS_PORT 15053
#define NAMES_PORT 53
#define PATIENCE_NS 1000000000

static __always_inline int left_alone(struct bpf_sock_addr *ctx, int connected)
{
	struct dns_state *state;

	if (connected && ctx->user_port == bpf_htons(DNS_PORT)) {
		state = bpf_sk_storage_get(&dns_state, ctx->sk, NULL, 0);
		if (state)
			state->connected.port = 0;
	}
	return PASS;
}

static __always_inline void remember(struct questions *questions, struct address *to)
{
	__u64 now = bpf_ktime_get_ns();

	if (now - questions->at > PATIENCE_NS)
		questions->first = questions->next;
	questions->at = now;
	questions->servers[questions->next & (QUESTIONS - 1)] = *to;
	questions->next++;
	if (questions->next - questions->first > QUESTIONS)
		questions->first = questions->next - QUESTIONS;
}

static __always_inline void keep_question(struct dns_state *state, struct questions *questions, struct address *to,
					  struct address *ztunnel, int connected)
{
	if (connected) {
		state->connected.ip = *to;
		state->connected.port = bpf_htons(NAMES_PORT);
	} else {
		questions->ztunnel = *ztunnel;
		remember(questions, to);
	}
	count(DNS_REDIRECTED);
}

static __always_inline int question4(struct bpf_sock_addr *ctx, struct address *to, int v4_mapped, int connected)
{
	__u32 key = ZTUNNEL;
	struct ztunnel *ztunnel = bpf_map_lookup_elem(&settings, &key);
	struct dns_state *state;
	struct address place;

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
	place = (struct address){ { 0, 0, V4_MAPPED, ztunnel->ip4 } };
	keep_question(state, &state->ip4, to, &place, connected);
	if (v4_mapped)
		ctx->user_ip6[3] = ztunnel->ip4;
	else
		ctx->user_ip4 = ztunnel->ip4;
	ctx->user_port = bpf_htons(DNS_PORT);
	return PASS;
}

static __always_inline int question6(struct bpf_sock_addr *ctx, struct address *to, int connected)
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
	keep_question(state, &state->ip6, to, &ztunnel->ip6, connected);
	ctx->user_ip6[0] = ztunnel->ip6.w[0];
	ctx->user_ip6[1] = ztunnel->ip6.w[1];
	ctx->user_ip6[2] = ztunnel->ip6.w[2];
	ctx->user_ip6[3] = ztunnel->ip6.w[3];
	ctx->user_port = bpf_htons(DNS_PORT);
	return PASS;
}

static __always_inline int asks4(struct bpf_sock_addr *ctx, int connected)
{
	struct pod_info *caller;
	struct address to = { { 0, 0, V4_MAPPED, 0 } };

	if (ctx->user_port != bpf_htons(NAMES_PORT))
		return left_alone(ctx, connected);
	caller = caller_of(ctx);
	if (!caller)
		return PASS;
	to.w[3] = ctx->user_ip4;
	if (!(caller->flags & DNS) || stays_in_pod(to.w[3], caller))
		return PASS;
	return question4(ctx, &to, 0, connected);
}

static __always_inline int asks6(struct bpf_sock_addr *ctx, int connected)
{
	struct pod_info *caller;
	struct address to;

	if (ctx->user_port != bpf_htons(NAMES_PORT))
		return left_alone(ctx, connected);
	caller = caller_of(ctx);
	if (!caller)
		return PASS;
	if (!(caller->flags & DNS))
		return PASS;
	to = (struct address){ { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
	if (connected && is_v4_mapped(&to))
		return stays_in_pod(to.w[3], caller) ? PASS : question4(ctx, &to, 1, connected);
	return stays_in_pod6(&to, caller) ? PASS : question6(ctx, &to, connected);
}
