/* The twin of programs/redirect.py. */
#include "slots.h"

#define MEMORY_LIMIT (4 << 20)
#define MESSAGE_OVERHEAD 1024

/* Each word by a load of its own: the verifier refuses the wider ones that clang would make of two. */
static __always_inline int has_addresses(struct sk_msg_md *ctx, const struct address *local,
					 const struct address *remote)
{
	return READ_ONCE(ctx->local_ip6[3]) == local->w[3] && READ_ONCE(ctx->remote_ip6[3]) == remote->w[3] &&
	       READ_ONCE(ctx->local_ip6[2]) == local->w[2] && READ_ONCE(ctx->local_ip6[1]) == local->w[1] &&
	       READ_ONCE(ctx->local_ip6[0]) == local->w[0] && READ_ONCE(ctx->remote_ip6[2]) == remote->w[2] &&
	       READ_ONCE(ctx->remote_ip6[1]) == remote->w[1] && READ_ONCE(ctx->remote_ip6[0]) == remote->w[0];
}

static __always_inline int is_clients(struct sk_msg_md *ctx, struct slot *slot)
{
	struct connection *one = &slot->connection;

	return one->client_port == ctx->local_port && one->server_port == bpf_ntohl(ctx->remote_port) &&
	       has_addresses(ctx, &one->client, &one->server) && slot->netns_cookie == bpf_get_netns_cookie(ctx);
}

static __always_inline int is_accepted(struct sk_msg_md *ctx, struct slot *slot)
{
	struct connection *one = &slot->connection;

	return one->client_port == bpf_ntohl(ctx->remote_port) && one->server_port == ctx->local_port &&
	       has_addresses(ctx, &one->server, &one->client) && one->netns_cookie == bpf_get_netns_cookie(ctx);
}

static __always_inline void send(struct sk_msg_md *ctx, struct direction *direction, __u32 to, int spliced)
{
	if (direction->by_tcp)
		return;
	direction->redirected += ctx->size + MESSAGE_OVERHEAD;
	if (!spliced || direction->redirected > MEMORY_LIMIT ||
	    bpf_msg_redirect_map(ctx, &sockets, to, BPF_F_INGRESS) != SK_PASS)
		direction->by_tcp = 1;
}

SEC("sk_msg")
int redirect(struct sk_msg_md *ctx)
{
	__u32 number = connection_number(ctx->local_ip6[3], ctx->local_port);
	struct slot *slot = slot_at(number);
	__u64 owner;

	if (slot) {
		owner = READ_ONCE(slot->owner);
		if (has_connection(owner) && is_clients(ctx, slot)) {
			send(ctx, &slot->requests, number * 2 + ACCEPTING, slot->spliced == owner);
			return SK_PASS;
		}
	}
	if (REDIRECT_TO_APP) {
		number = connection_number(ctx->remote_ip6[3], bpf_ntohl(ctx->remote_port));
		slot = slot_at(number);
		if (slot) {
			owner = READ_ONCE(slot->owner);
			if (has_connection(owner) && is_accepted(ctx, slot))
				send(ctx, &slot->answers, number * 2 + CLIENT, slot->spliced == owner);
		}
	}
	return SK_PASS;
}

char _license[] SEC("license") = "GPL";
