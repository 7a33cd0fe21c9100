/* Programs that share functions, in every way that compilers refer to them, and to variables and maps. */
#include "bpf.h"

struct value {
	u64 count;
	u32 flags[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, struct value);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 8);
	__uint(max_entries, 4);
	__uint(map_flags, 1024);
} numbers SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { &first, 0, &second },
};

int pass(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(struct xdp_md *));
} jumps SEC(".maps") = {
	.values = { [1] = &pass },
};

const volatile u32 limit = 7;
volatile u32 started = 3;
u64 seen;
static volatile u64 hidden_seen[3];
static volatile const char text[] = "some text";
u32 other SEC(".data.other") = 1;

static __noinline int deepest(u32 number)
{
	seen += number;
	return number > limit ? text[number & 7] : (int)started;
}

static __noinline int deeper(u32 number)
{
	hidden_seen[1]++;
	return deepest(number) + deepest(number + 1);
}

__noinline int shared(u32 number)
{
	u32 key = number;
	struct value *value = bpf_map_lookup_elem(&counts, &key);
	if (!value)
		return deepest(number);
	value->count++;
	return other;
}

__hidden __noinline int concealed(u32 number)
{
	u32 key = number & 3;
	u64 *value = bpf_map_lookup_elem(&numbers, &key);
	return value ? (int)*value : 0;
}

static long each(void *map, u32 *key, u64 *value, void *context)
{
	*value += deepest(*key);
	return 0;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return shared(ctx->ingress_ifindex) ? 2 : deeper(1);
}

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return deeper(ctx->rx_queue_index) ? 1 : concealed(5);
}

SEC("xdp.frags")
int walk(struct xdp_md *ctx)
{
	u32 key = 0;
	bpf_for_each_map_elem(&numbers, each, 0, 0);
	bpf_map_lookup_elem(&outer, &key);
	return 2;
}

SEC("socket")
int plain(void *ctx)
{
	return (int)bpf_ktime_get_ns();
}

char _license[] SEC("license") = "Dual BSD/GPL";
