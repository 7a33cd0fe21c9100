/* The twin of programs/getsockopt.py. */
#include "maps.h"

#define PAGE_SIZE 4096

#define SOL_IP 0
#define SOL_IPV6 41
#define SO_ORIGINAL_DST 80
#define AF_INET 2
#define AF_INET6 10

struct sockaddr_in {
	__u16 sin_family;
	__be16 sin_port;
	__be32 sin_addr;
	__u64 sin_zero;
};

struct sockaddr_in6 {
	__u16 sin6_family;
	__be16 sin6_port;
	__be32 sin6_flowinfo;
	struct address sin6_addr;
	__u32 sin6_scope_id;
};

static __always_inline void answer_ip4(struct bpf_sockopt *ctx, struct endpoint *original)
{
	struct sockaddr_in *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return;
	ctx->optlen = sizeof(*answer);
	answer->sin_family = AF_INET;
	answer->sin_port = original->port;
	answer->sin_addr = original->ip.w[3];
	answer->sin_zero = 0;
	ctx->retval = 0;
}

static __always_inline void answer_ip6(struct bpf_sockopt *ctx, struct endpoint *original)
{
	struct sockaddr_in6 *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return;
	ctx->optlen = sizeof(*answer);
	answer->sin6_family = AF_INET6;
	answer->sin6_port = original->port;
	answer->sin6_flowinfo = 0;
	answer->sin6_addr = original->ip;
	answer->sin6_scope_id = 0;
	ctx->retval = 0;
}

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	struct socket_state *state;
	int level;

	if (ctx->optlen > PAGE_SIZE) {
		ctx->optlen = 0;
		return 1;
	}
	level = ctx->level;
	if (ctx->optname != SO_ORIGINAL_DST || (level != SOL_IP && level != SOL_IPV6))
		return 1;
	state = bpf_sk_storage_get(&socket_state, ctx->sk, NULL, 0);
	if (!state)
		return 1;
	if (state->side != ACCEPTING)
		return 1;
	if (level == SOL_IPV6) {
		if (state->original.family == AF_INET6)
			answer_ip6(ctx, &state->original);
	} else if (state->original.family == AF_INET) {
		answer_ip4(ctx, &state->original);
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
