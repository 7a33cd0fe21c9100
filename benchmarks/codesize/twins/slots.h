/* The twin of programs/slots.py. */
#pragma once

#include "maps.h"

#define COOKIE_MASK ((1ULL << 48) - 1)
#define TIME_SHIFT 48
#define TIME 0xff
#define TAKEN (1ULL << 62)
#define ORPHANED (1ULL << 63)

#define CALL_UNITS 2
#define ORPHAN_UNITS 16

#define REDIRECT_TO_APP 0

#define SPREAD 0x9E3779B97F4A7C15ULL

static __always_inline __u64 now(void)
{
	return bpf_jiffies64() >> 12 & TIME;
}

static __always_inline int is_older(__u64 owner, __u64 units)
{
	return ((now() - (owner >> TIME_SHIFT)) & TIME) >= units;
}

static __always_inline struct pending *call_slot(__u64 cookie)
{
	__u32 number = cookie & (CALLS - 1);

	return bpf_map_lookup_elem(&pending, &number);
}

static __always_inline struct call *taken_for_call(__u64 cookie)
{
	struct pending *slot = call_slot(cookie);
	__u64 owner;

	if (!slot)
		return NULL;
	owner = READ_ONCE(slot->owner);
	if (owner & TAKEN || (owner && (owner & COOKIE_MASK) != cookie && !is_older(owner, CALL_UNITS)))
		return NULL;
	if (!__sync_bool_compare_and_swap(&slot->owner, owner, TAKEN | cookie))
		return NULL;
	return &slot->call;
}

static __always_inline void call_filled(__u64 cookie)
{
	struct pending *slot = call_slot(cookie);

	if (slot && READ_ONCE(slot->owner) == (TAKEN | cookie))
		__sync_lock_test_and_set(&slot->owner, now() << TIME_SHIFT | cookie);
}

static __always_inline int has_call(struct pending *slot, __u64 cookie)
{
	__u64 owner = READ_ONCE(slot->owner);

	if ((owner & COOKIE_MASK) != cookie)
		return 0;
	return __sync_bool_compare_and_swap(&slot->owner, owner, TAKEN | cookie);
}

static __always_inline void give_call_back(__u64 cookie)
{
	struct pending *slot = call_slot(cookie);

	if (slot && (READ_ONCE(slot->owner) & COOKIE_MASK) == cookie)
		__sync_lock_test_and_set(&slot->owner, 0);
}

static __always_inline __u32 connection_number(__be32 client, __u32 port)
{
	return ((__u64)bpf_ntohl(client) << 16 | port) * SPREAD >> 40 & (CONNECTIONS - 1);
}

static __always_inline struct slot *slot_at(__u32 number)
{
	return bpf_map_lookup_elem(&connections, &number);
}

static __always_inline int is_same_connection(const struct connection *one, const struct connection *other)
{
	return one->client_port == other->client_port && one->server_port == other->server_port &&
	       one->netns_cookie == other->netns_cookie && is_same(&one->client, &other->client) &&
	       is_same(&one->server, &other->server);
}

static __always_inline int has_connection(__u64 owner)
{
	return owner && !(owner & TAKEN);
}

static __always_inline int is_connection_of(struct slot *slot, __u64 owner, const struct connection *key)
{
	return has_connection(owner) && is_same_connection(&slot->connection, key);
}

static __always_inline int is_still(struct slot *slot, __u64 owner)
{
	return !((__sync_fetch_and_or(&slot->owner, 0) ^ owner) & (COOKIE_MASK | TAKEN));
}

static __always_inline int is_over(struct slot *slot, __u64 owner)
{
	__u64 cookie = owner & COOKIE_MASK;

	if (!(owner & ORPHANED))
		return 0;
	if (slot->answered != cookie && !is_older(owner, ORPHAN_UNITS))
		return 0;
	return !REDIRECT_TO_APP || slot->spliced != cookie || slot->released == cookie;
}

static __always_inline int is_taken_for_connection(struct slot *slot, const struct connection *key, __u64 cookie)
{
	__u64 owner = READ_ONCE(slot->owner);

	if (owner & TAKEN)
		return 0;
	if (owner && owner != cookie && !is_over(slot, owner) &&
	    (slot->accepted == (owner & COOKIE_MASK) || !is_same_connection(&slot->connection, key)))
		return 0;
	return __sync_bool_compare_and_swap(&slot->owner, owner, TAKEN | cookie);
}

static __always_inline void filled(struct slot *slot, __u64 cookie)
{
	__sync_lock_test_and_set(&slot->owner, cookie);
}

static __always_inline void drop(struct slot *slot, __u64 owner)
{
	__sync_val_compare_and_swap(&slot->owner, owner, 0);
}

static __always_inline void leave(struct slot *slot, __u64 cookie, int is_asked_about)
{
	__u64 left = is_asked_about ? ORPHANED | now() << TIME_SHIFT | cookie : 0;

	__sync_val_compare_and_swap(&slot->owner, cookie, left);
}
