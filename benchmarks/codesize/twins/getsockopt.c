/* The twin of programs/getsockopt.py. */
#include "maps.h"

#define PAGE_SIZE 4096

#define SOL_IP 0
#define SO_ORIGINAL_DST 80
#define AF_INET 2

struct sockaddr_in {
	__u16 sin_family;
	__be16 sin_port;
	__be32 sin_addr;
	__u64 sin_zero;
};

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	struct socket_state *state;
	struct sockaddr_in *answer;

	if (ctx->optlen > PAGE_SIZE) {
		ctx->optlen = 0;
		return 1;
	}
	if (ctx->level != SOL_IP || ctx->optname != SO_ORIGINAL_DST)
		return 1;
	state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, 0);
	if (!state)
		return 1;
	if (state->side != ACCEPTING)
		return 1;
	answer = ctx->optval;
	if ((void *)(answer + 1) > ctx->optval_end)
		return 1;
	ctx->optlen = sizeof(*answer);
	answer->sin_family = AF_INET;
	answer->sin_port = state->original.port;
	answer->sin_addr = state->original.ip4;
	answer->sin_zero = 0;
	ctx->retval = 0;
	return 1;
}

char _license[] SEC("license") = "GPL";
