/* The twin of programs/getsockopt.py. */
#include "slots.h"

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

static __always_inline int told_ip4(struct bpf_sockopt *ctx, struct endpoint *original)
{
	struct sockaddr_in *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return 0;
	ctx->optlen = sizeof(*answer);
	answer->sin_family = AF_INET;
	answer->sin_port = original->port;
	answer->sin_addr = original->ip.w[3];
	answer->sin_zero = 0;
	ctx->retval = 0;
	return 1;
}

static __always_inline int told_ip6(struct bpf_sockopt *ctx, struct endpoint *original)
{
	struct sockaddr_in6 *answer = ctx->optval;

	if ((void *)(answer + 1) > ctx->optval_end)
		return 0;
	ctx->optlen = sizeof(*answer);
	answer->sin6_family = AF_INET6;
	answer->sin6_port = original->port;
	answer->sin6_flowinfo = 0;
	answer->sin6_addr = original->ip;
	answer->sin6_scope_id = 0;
	ctx->retval = 0;
	return 1;
}

static __always_inline int told(struct bpf_sockopt *ctx, int level, struct endpoint *original)
{
	if (level == SOL_IPV6)
		return original->family == AF_INET6 && told_ip6(ctx, original);
	return original->family == AF_INET && told_ip4(ctx, original);
}

static __always_inline struct connection as_accepted(struct bpf_sockopt *ctx, struct bpf_sock *sk)
{
	struct connection key;

	key.netns_cookie = bpf_get_netns_cookie(ctx);
	key.client = address_of(sk->dst_ip6);
	key.client_port = bpf_ntohs(sk->dst_port);
	key.server = address_of(sk->src_ip6);
	key.server_port = sk->src_port;
	return key;
}

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	struct socket_state *state;
	struct endpoint original;
	struct connection key;
	struct bpf_sock *sk;
	struct slot *slot;
	__u64 owner;
	int level;

	if (ctx->optlen > PAGE_SIZE) {
		ctx->optlen = 0;
		return 1;
	}
	level = ctx->level;
	if (ctx->optname != SO_ORIGINAL_DST || (level != SOL_IP && level != SOL_IPV6))
		return 1;
	sk = ctx->sk;
	state = bpf_sk_storage_get(&socket_state, sk, NULL, 0);
	if (state && state->side == ACCEPTING) {
		told(ctx, level, &state->original);
		return 1;
	}
	key = as_accepted(ctx, sk);
	slot = slot_at(connection_number(key.client.w[3], key.client_port));
	if (!slot)
		return 1;
	owner = READ_ONCE(slot->owner);
	if (!is_connection_of(slot, owner, &key) || slot->accepted != (owner & COOKIE_MASK))
		return 1;
	original = slot->original;
	if (is_still(slot, owner) && told(ctx, level, &original))
		slot->answered = owner & COOKIE_MASK;
	return 1;
}

char _license[] SEC("license") = "GPL";
