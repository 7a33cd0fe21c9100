/* The twin of programs/getpeername.py. */
#include "maps.h"

#define DNS_PORT 15053
#define IPPROTO_UDP 17

static __always_inline struct socket_state *redirected(struct bpf_sock_addr *ctx)
{
	struct socket_state *state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, 0);

	if (!state)
		return NULL;
	if (!state->id.client || state->side != CLIENT)
		return NULL;
	return state;
}

static __always_inline int is_asking(struct bpf_sock_addr *ctx, struct dns_state *state)
{
	return state->connected.port && ctx->user_port == bpf_htons(DNS_PORT);
}

static __always_inline struct endpoint *peer_of(struct bpf_sock_addr *ctx)
{
	struct dns_state *question;
	struct socket_state *state;

	if (ctx->protocol == IPPROTO_UDP) {
		question = bpf_sk_storage_get(&dns_state, ctx->sk, NULL, 0);
		return question && is_asking(ctx, question) ? &question->connected : NULL;
	}
	state = redirected(ctx);
	return state ? &state->original : NULL;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct endpoint *peer = peer_of(ctx);

	if (peer) {
		ctx->user_ip4 = peer->ip.w[3];
		ctx->user_port = peer->port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct endpoint *peer = peer_of(ctx);

	if (peer) {
		ctx->user_ip6[0] = peer->ip.w[0];
		ctx->user_ip6[1] = peer->ip.w[1];
		ctx->user_ip6[2] = peer->ip.w[2];
		ctx->user_ip6[3] = peer->ip.w[3];
		ctx->user_port = peer->port;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
