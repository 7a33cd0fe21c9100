/* The twin of programs/sockops.py. */
#include "maps.h"

#define OUT_PORT 15001
#define IN_PORT 15006
#define HBONE_PORT 15008
#define DNS_PORT 15053
#define MOST_PER_NETNS 16384
#define EEXIST 17

#define REDIRECT_TO_ZTUNNEL 1
#define REDIRECT_TO_APP 0

static __always_inline struct socket_state *state_of(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return NULL;
	return bpf_sk_storage_get(&socket_state, sk, NULL, 0);
}

static __always_inline void report(struct bpf_sock_ops *ctx, int flags)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | flags);
}

/* One load a word: the verifier refuses the wider ones that clang would make of two. */
#define WORD(field) (*(volatile __u32 *)&(field))

static __always_inline struct address local(struct bpf_sock_ops *ctx)
{
	return (struct address){ { WORD(ctx->local_ip6[0]), WORD(ctx->local_ip6[1]), WORD(ctx->local_ip6[2]), WORD(ctx->local_ip6[3]) } };
}

static __always_inline struct address remote(struct bpf_sock_ops *ctx)
{
	return (struct address){ { WORD(ctx->remote_ip6[0]), WORD(ctx->remote_ip6[1]), WORD(ctx->remote_ip6[2]), WORD(ctx->remote_ip6[3]) } };
}

static __always_inline int is_remote(struct bpf_sock_ops *ctx, struct address *at)
{
	return WORD(ctx->remote_ip6[3]) == at->w[3] && WORD(ctx->remote_ip6[2]) == at->w[2] &&
	       WORD(ctx->remote_ip6[1]) == at->w[1] && WORD(ctx->remote_ip6[0]) == at->w[0];
}

static __always_inline int is_local(struct bpf_sock_ops *ctx, struct address *at)
{
	return WORD(ctx->local_ip6[3]) == at->w[3] && WORD(ctx->local_ip6[2]) == at->w[2] &&
	       WORD(ctx->local_ip6[1]) == at->w[1] && WORD(ctx->local_ip6[0]) == at->w[0];
}

static __always_inline struct connection as_client(struct bpf_sock_ops *ctx, __u64 ztunnel_netns)
{
	struct connection key = {};

	key.netns_cookie = ztunnel_netns;
	key.client = local(ctx);
	key.client_port = ctx->local_port;
	key.server = remote(ctx);
	key.server_port = bpf_ntohl(ctx->remote_port);
	return key;
}

static __always_inline void give_back(__u64 netns_cookie)
{
	struct share *share = bpf_map_lookup_elem(&shares, &netns_cookie);

	if (share)
		__sync_fetch_and_add(&share->used, -1);
}

static __always_inline int is_recorded(struct bpf_sock_ops *ctx, struct socket_state *state)
{
	__u64 netns_cookie = bpf_get_netns_cookie(ctx);
	struct share *share = bpf_map_lookup_elem(&shares, &netns_cookie);
	struct origin origin = {};
	struct connection key;
	long failed;

	if (!share) {
		struct share none = {};

		bpf_map_update_elem(&shares, &netns_cookie, &none, BPF_NOEXIST);
		share = bpf_map_lookup_elem(&shares, &netns_cookie);
		if (!share) {
			count(SHARE_USED_UP);
			return 0;
		}
	}
	if (share->used >= MOST_PER_NETNS) {
		count(SHARE_USED_UP);
		return 0;
	}
	key = as_client(ctx, state->ztunnel_netns);
	origin.original = state->original;
	origin.id = state->id;
	origin.netns_cookie = netns_cookie;
	failed = bpf_map_update_elem(&original_dst, &key, &origin, BPF_NOEXIST);
	if (failed == -EEXIST) {
		if (!bpf_map_delete_elem(&original_dst, &key))
			__sync_fetch_and_add(&share->used, -1);
		failed = bpf_map_update_elem(&original_dst, &key, &origin, BPF_NOEXIST);
	}
	if (failed) {
		count(ORIGINAL_DST_FULL);
		return 0;
	}
	__sync_fetch_and_add(&share->used, 1);
	return 1;
}

static __always_inline void connecting(struct bpf_sock_ops *ctx)
{
	struct socket_state *state = state_of(ctx);

	if (!state)
		return;
	if (!is_remote(ctx, &state->ztunnel.ip) ||
	    bpf_ntohl(ctx->remote_port) != (__u32)bpf_ntohs(state->ztunnel.port)) {
		state->id.client = 0;
		return;
	}
	if (state->enrolled && !is_local(ctx, &state->pod)) {
		state->id.client = 0;
		count(FOREIGN_SOURCE);
		return;
	}
	if (REDIRECT_TO_APP && state->id.generation) {
		struct socket_key last = { .id = state->id, .side = CLIENT };

		bpf_map_delete_elem(&sockets, &last);
	}
	state->id.client = bpf_get_socket_cookie(ctx);
	state->id.generation++;
	state->side = CLIENT;
	state->by_tcp = 0;
	state->redirected = 0;
	if (!is_recorded(ctx, state))
		return;
	if (REDIRECT_TO_ZTUNNEL)
		report(ctx, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	else
		report(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void client_established(struct bpf_sock_ops *ctx)
{
	struct socket_state *state = state_of(ctx);
	struct socket_key key;

	if (!state)
		return;
	if (!state->id.client)
		return;
	if (ctx->data_segs_out)
		state->by_tcp = 1;
	key = (struct socket_key){ .id = state->id, .side = CLIENT };
	bpf_sock_hash_update(ctx, &sockets, &key, BPF_ANY);
}

static __always_inline void accepting_established(struct bpf_sock_ops *ctx)
{
	struct connection key = {};
	struct socket_key key_of_socket;
	struct socket_state *state;
	struct origin *origin;
	struct bpf_sock *sk;
	__u64 netns_cookie;

	key.netns_cookie = bpf_get_netns_cookie(ctx);
	key.client = remote(ctx);
	key.client_port = bpf_ntohl(ctx->remote_port);
	key.server = local(ctx);
	key.server_port = ctx->local_port;
	origin = bpf_map_lookup_elem(&original_dst, &key);
	if (!origin)
		return;
	sk = ctx->sk;
	if (!sk)
		return;
	state = bpf_sk_storage_get(&socket_state, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count(REFUSED_NO_MEMORY);
		return;
	}
	state->original = origin->original;
	state->id = origin->id;
	state->side = ACCEPTING;
	netns_cookie = origin->netns_cookie;
	if (!bpf_map_delete_elem(&original_dst, &key))
		give_back(netns_cookie);
	if (REDIRECT_TO_APP)
		report(ctx, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	key_of_socket = (struct socket_key){ .id = state->id, .side = ACCEPTING };
	if (REDIRECT_TO_ZTUNNEL && !bpf_sock_hash_update(ctx, &sockets, &key_of_socket, BPF_ANY))
		count(SPLICED);
}

static __always_inline void sending_by_tcp(struct bpf_sock_ops *ctx)
{
	struct socket_state *state = state_of(ctx);

	if (!state)
		return;
	state->by_tcp = 1;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline void client_closed(struct bpf_sock_ops *ctx)
{
	struct socket_state *state = state_of(ctx);
	struct connection key;
	struct origin *origin;
	__u64 netns_cookie;

	if (!state)
		return;
	key = as_client(ctx, state->ztunnel_netns);
	origin = bpf_map_lookup_elem(&original_dst, &key);
	if (!origin)
		return;
	if (origin->id.client != state->id.client || origin->id.generation != state->id.generation)
		return;
	netns_cookie = origin->netns_cookie;
	if (!bpf_map_delete_elem(&original_dst, &key))
		give_back(netns_cookie);
}

SEC("sockops")
int socket_event(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connecting(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (REDIRECT_TO_ZTUNNEL)
			client_established(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		switch (ctx->local_port) {
		case OUT_PORT:
		case IN_PORT:
		case HBONE_PORT:
		case DNS_PORT:
			accepting_established(ctx);
		}
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (ctx->args[0] == BPF_WRITE_HDR_TCP_CURRENT_MSS)
			sending_by_tcp(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE)
			client_closed(ctx);
		break;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
