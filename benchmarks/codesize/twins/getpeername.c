/* The twin of programs/getpeername.py. */
#include "maps.h"

static __always_inline struct socket_state *redirected(struct bpf_sock_addr *ctx)
{
	struct socket_state *state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, 0);

	if (!state)
		return NULL;
	if (!state->id.client || state->side != CLIENT)
		return NULL;
	return state;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct socket_state *state = redirected(ctx);

	if (state) {
		ctx->user_ip4 = state->original.ip.w[3];
		ctx->user_port = state->original.port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct socket_state *state = redirected(ctx);

	if (state) {
		ctx->user_ip6[0] = state->original.ip.w[0];
		ctx->user_ip6[1] = state->original.ip.w[1];
		ctx->user_ip6[2] = state->original.ip.w[2];
		ctx->user_ip6[3] = state->original.ip.w[3];
		ctx->user_port = state->original.port;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
