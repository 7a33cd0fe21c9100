/* The twin of programs/getpeername.py. */
#include "slots.h"

#define DNS_PORT 15053
#define IPPROTO_UDP 17

static __always_inline struct endpoint *server(struct bpf_sock_addr *ctx)
{
	struct dns_state *state;

	if (ctx->user_port != bpf_htons(DNS_PORT))
		return NULL;
	state = bpf_sk_storage_get(&dns_state, ctx->sk, NULL, 0);
	return state && state->connected.port ? &state->connected : NULL;
}

static __always_inline struct endpoint *dialled(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct socket_state *state;
	struct slot *slot;

	if (ctx->protocol == IPPROTO_UDP)
		return server(ctx);
	slot = slot_at(connection_number(sk->src_ip6[3], sk->src_port));
	if (slot && READ_ONCE(slot->owner) == bpf_get_socket_cookie(ctx))
		return &slot->original;
	state = bpf_sk_storage_get(&socket_state, sk, NULL, 0);
	return state && state->client && state->side == CLIENT ? &state->original : NULL;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct endpoint *peer = dialled(ctx);

	if (peer) {
		ctx->user_ip4 = peer->ip.w[3];
		ctx->user_port = peer->port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct endpoint *peer = dialled(ctx);

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
