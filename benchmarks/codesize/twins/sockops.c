/* The twin of programs/sockops.py. */
#include "slots.h"

#define OUT_PORT 15001
#define IN_PORT 15006
#define HBONE_PORT 15008
#define DNS_PORT 15053
#define MOST_PER_NETNS 16384
#define EEXIST 17

#define REDIRECT_TO_ZTUNNEL 1

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

static __always_inline int is_remote(struct bpf_sock_ops *ctx, struct address *at)
{
	return READ_ONCE(ctx->remote_ip6[3]) == at->w[3] && READ_ONCE(ctx->remote_ip6[2]) == at->w[2] &&
	       READ_ONCE(ctx->remote_ip6[1]) == at->w[1] && READ_ONCE(ctx->remote_ip6[0]) == at->w[0];
}

static __always_inline int is_local(struct bpf_sock_ops *ctx, struct address *at)
{
	return READ_ONCE(ctx->local_ip6[3]) == at->w[3] && READ_ONCE(ctx->local_ip6[2]) == at->w[2] &&
	       READ_ONCE(ctx->local_ip6[1]) == at->w[1] && READ_ONCE(ctx->local_ip6[0]) == at->w[0];
}

static __always_inline struct connection as_client(struct bpf_sock_ops *ctx, __u64 ztunnel_netns)
{
	struct connection key = {};

	key.netns_cookie = ztunnel_netns;
	key.client = address_of(ctx->local_ip6);
	key.client_port = ctx->local_port;
	key.server = address_of(ctx->remote_ip6);
	key.server_port = bpf_ntohl(ctx->remote_port);
	return key;
}

static __always_inline void give_back(__u64 netns_cookie)
{
	struct share *share = bpf_map_lookup_elem(&shares, &netns_cookie);

	if (share)
		__sync_fetch_and_add(&share->used, -1);
}

static __always_inline int is_recorded(struct bpf_sock_ops *ctx, struct call *call, __u64 cookie)
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
	key = as_client(ctx, call->ztunnel_netns);
	origin.original = call->original;
	origin.client = cookie;
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

static __always_inline int is_as_called(struct bpf_sock_ops *ctx, struct call *call)
{
	if (!is_remote(ctx, &call->ztunnel.ip) ||
	    bpf_ntohl(ctx->remote_port) != (__u32)bpf_ntohs(call->ztunnel.port))
		return 0;
	if (call->enrolled && !is_local(ctx, &call->pod)) {
		count(FOREIGN_SOURCE);
		return 0;
	}
	return 1;
}

static __always_inline int has_slot(struct bpf_sock_ops *ctx, struct call *call, __u64 cookie)
{
	struct slot *slot = slot_at(connection_number(ctx->local_ip6[3], ctx->local_port));
	struct connection key;

	if (!slot)
		return 0;
	key = as_client(ctx, call->ztunnel_netns);
	if (!is_taken_for_connection(slot, &key, cookie))
		return 0;
	slot->connection = key;
	slot->netns_cookie = bpf_get_netns_cookie(ctx);
	slot->original = call->original;
	slot->joined = 0;
	slot->spliced = 0;
	slot->accepted = 0;
	slot->answered = 0;
	slot->released = 0;
	slot->requests = (struct direction){};
	slot->answers = (struct direction){};
	filled(slot, cookie);
	return 1;
}

static __always_inline int is_kept(struct bpf_sock_ops *ctx, struct call *call, __u64 cookie)
{
	struct socket_state *state;
	struct bpf_sock *sk;

	count(CROWDED);
	sk = ctx->sk;
	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&socket_state, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count(REFUSED_NO_MEMORY);
		return 0;
	}
	state->call = *call;
	state->original = call->original;
	state->side = CLIENT;
	state->client = cookie;
	return is_recorded(ctx, call, cookie);
}

static __always_inline struct call *call_of(struct bpf_sock_ops *ctx, __u64 cookie)
{
	struct pending *slot = call_slot(cookie);
	struct socket_state *state;

	if (slot && has_call(slot, cookie))
		return &slot->call;
	state = state_of(ctx);
	if (!state)
		return NULL;
	state->client = 0;
	return &state->call;
}

static __always_inline void connecting(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct call *call = call_of(ctx, cookie);

	if (!call)
		return;
	if (is_as_called(ctx, call)) {
		if (has_slot(ctx, call, cookie))
			report(ctx, REDIRECT_TO_ZTUNNEL ?
					    BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG :
					    BPF_SOCK_OPS_STATE_CB_FLAG);
		else if (is_kept(ctx, call, cookie))
			report(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	}
	give_call_back(cookie);
}

static __always_inline struct slot *own_slot(struct bpf_sock_ops *ctx, __u32 number)
{
	struct slot *slot = slot_at(number);

	return slot && READ_ONCE(slot->owner) == bpf_get_socket_cookie(ctx) ? slot : NULL;
}

static __always_inline void client_established(struct bpf_sock_ops *ctx)
{
	__u32 number = connection_number(ctx->local_ip6[3], ctx->local_port);
	struct slot *slot = own_slot(ctx, number);
	__u32 key = number * 2 + CLIENT;

	if (!slot)
		return;
	if (ctx->data_segs_out)
		slot->requests.by_tcp = 1;
	if (!bpf_sock_map_update(ctx, &sockets, &key, BPF_NOEXIST))
		slot->joined = READ_ONCE(slot->owner);
}

static __always_inline struct connection as_accepting(struct bpf_sock_ops *ctx)
{
	struct connection key = {};

	key.netns_cookie = bpf_get_netns_cookie(ctx);
	key.client = address_of(ctx->remote_ip6);
	key.client_port = bpf_ntohl(ctx->remote_port);
	key.server = address_of(ctx->local_ip6);
	key.server_port = ctx->local_port;
	return key;
}

static __always_inline int is_accepted(struct bpf_sock_ops *ctx, struct slot *slot, __u64 owner, __u32 number)
{
	__u32 key = number * 2 + ACCEPTING;

	if (slot->accepted == owner || owner & ORPHANED) {
		drop(slot, owner);
		return 0;
	}
	slot->accepted = owner;
	if (REDIRECT_TO_ZTUNNEL && slot->joined == owner) {
		if (REDIRECT_TO_APP)
			report(ctx, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		if (!bpf_sock_map_update(ctx, &sockets, &key, BPF_NOEXIST)) {
			slot->spliced = owner;
			count(SPLICED);
		}
	}
	return 1;
}

static __always_inline void accepting_established(struct bpf_sock_ops *ctx)
{
	struct connection key = as_accepting(ctx);
	__u32 number = connection_number(key.client.w[3], key.client_port);
	struct slot *slot = slot_at(number);
	struct socket_state *state;
	struct origin *origin;
	struct bpf_sock *sk;
	__u64 netns_cookie;
	__u64 owner;

	if (slot) {
		owner = READ_ONCE(slot->owner);
		if (is_connection_of(slot, owner, &key) && is_accepted(ctx, slot, owner, number))
			return;
	}
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
	netns_cookie = origin->netns_cookie;
	if (!bpf_map_delete_elem(&original_dst, &key)) {
		state->side = ACCEPTING;
		give_back(netns_cookie);
	}
}

static __always_inline struct slot *accepted_slot(struct bpf_sock_ops *ctx)
{
	struct connection key = as_accepting(ctx);
	struct slot *slot = slot_at(connection_number(key.client.w[3], key.client_port));

	return slot && is_connection_of(slot, READ_ONCE(slot->owner), &key) ? slot : NULL;
}

static __always_inline void sending_by_tcp(struct bpf_sock_ops *ctx)
{
	struct slot *slot = own_slot(ctx, connection_number(ctx->local_ip6[3], ctx->local_port));

	if (slot) {
		slot->requests.by_tcp = 1;
	} else if (REDIRECT_TO_APP) {
		slot = accepted_slot(ctx);
		if (slot)
			slot->answers.by_tcp = 1;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline void closed(struct bpf_sock_ops *ctx)
{
	struct slot *slot = own_slot(ctx, connection_number(ctx->local_ip6[3], ctx->local_port));
	struct socket_state *state;
	struct connection key;
	struct origin *origin;
	__u64 netns_cookie;

	if (slot) {
		int is_asked_about = ctx->args[0] == BPF_TCP_FIN_WAIT1 || ctx->args[0] == BPF_TCP_FIN_WAIT2;

		leave(slot, READ_ONCE(slot->owner), is_asked_about && bpf_ntohl(ctx->remote_port) != DNS_PORT);
		return;
	}
	if (REDIRECT_TO_APP) {
		slot = accepted_slot(ctx);
		if (slot) {
			slot->released = READ_ONCE(slot->owner) & COOKIE_MASK;
			return;
		}
	}
	state = state_of(ctx);
	if (!state)
		return;
	key = as_client(ctx, state->call.ztunnel_netns);
	origin = bpf_map_lookup_elem(&original_dst, &key);
	if (!origin || origin->client != state->client)
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
			closed(ctx);
		break;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
