/* The twin of programs/dns.py. */
#include "dns.h"

#define TCP_ESTABLISHED 1

static __always_inline struct address *answered(struct questions *questions)
{
	if (questions->first != questions->next)
		questions->first++;
	return &questions->servers[(questions->first - 1) & (QUESTIONS - 1)];
}

static __always_inline int is_from(struct bpf_sock_addr *ctx, struct address *at)
{
	return ctx->user_ip6[3] == at->w[3] && ctx->user_ip6[2] == at->w[2] && ctx->user_ip6[1] == at->w[1] &&
	       ctx->user_ip6[0] == at->w[0];
}

static __always_inline struct dns_state *asking(struct bpf_sock_addr *ctx)
{
	if (ctx->user_port != bpf_htons(DNS_PORT))
		return NULL;
	return bpf_sk_storage_get(&dns_state, ctx->sk, NULL, 0);
}

static __always_inline void show6(struct bpf_sock_addr *ctx, struct address *server)
{
	ctx->user_ip6[0] = server->w[0];
	ctx->user_ip6[1] = server->w[1];
	ctx->user_ip6[2] = server->w[2];
	ctx->user_ip6[3] = server->w[3];
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return asks4(ctx, 0);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return asks6(ctx, 0);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	struct dns_state *state = asking(ctx);
	struct address *server;

	if (!state)
		return PASS;
	if (ctx->sk->state == TCP_ESTABLISHED) {
		if (!state->connected.port)
			return PASS;
		server = &state->connected.ip;
	} else {
		if (ctx->user_ip4 != state->ip4.ztunnel.w[3])
			return PASS;
		server = answered(&state->ip4);
	}
	ctx->user_ip4 = server->w[3];
	ctx->user_port = bpf_htons(NAMES_PORT);
	return PASS;
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	struct dns_state *state = asking(ctx);
	struct questions *questions;
	struct address *server;

	if (!state)
		return PASS;
	if (ctx->sk->state != TCP_ESTABLISHED) {
		if (is_from(ctx, &state->ip4.ztunnel))
			questions = &state->ip4;
		else if (is_from(ctx, &state->ip6.ztunnel))
			questions = &state->ip6;
		else
			return PASS;
		server = answered(questions);
	} else {
		if (!state->connected.port)
			return PASS;
		server = &state->connected.ip;
	}
	show6(ctx, server);
	ctx->user_port = bpf_htons(NAMES_PORT);
	return PASS;
}

char _license[] SEC("license") = "GPL";
