/* The twin of programs/redirect.py. */
#include "maps.h"

#define REDIRECT_TO_APP 0

#define MEMORY_LIMIT (4 << 20)
#define MESSAGE_OVERHEAD 1024

SEC("sk_msg")
int redirect(struct sk_msg_md *ctx)
{
	struct socket_state *state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, 0);
	struct socket_key peer;

	if (!state)
		return SK_PASS;
	if (state->by_tcp || (state->side == ACCEPTING && !REDIRECT_TO_APP))
		return SK_PASS;
	state->redirected += ctx->size + MESSAGE_OVERHEAD;
	if (state->redirected > MEMORY_LIMIT) {
		state->by_tcp = 1;
		return SK_PASS;
	}
	peer = (struct socket_key){ .id = state->id, .side = state->side ^ 1 };
	if (bpf_msg_redirect_hash(ctx, &sockets, &peer, BPF_F_INGRESS) != SK_PASS)
		state->by_tcp = 1;
	return SK_PASS;
}

char _license[] SEC("license") = "GPL";
