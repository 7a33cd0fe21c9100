/* Variables of the kernel: one by its type, one by its address only. */
#include "bpf.h"

extern const int bpf_prog_active __ksym;
extern const void __init_begin __ksym;

u64 result;

SEC("raw_tp/sys_enter")
int variable(u64 *ctx)
{
	result = (u64)&bpf_prog_active + (u64)&__init_begin;
	return 0;
}

char _license[] SEC("license") = "GPL";
