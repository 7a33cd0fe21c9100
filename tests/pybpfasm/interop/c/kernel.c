/* What a program takes from the kernel: functions, variables, configuration. */
#include "bpf.h"

struct task_struct {
	int pid;
} __core;

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern int no_such_function(int) __ksym __weak;
extern const int no_such_variable __ksym __weak;
extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF __kconfig __weak;
extern int CONFIG_NO_SUCH_THING __kconfig __weak;

u64 result;

SEC("tp_btf/task_newtask")
int kernel(u64 *ctx)
{
	struct task_struct *task = bpf_task_acquire((void *)ctx[0]);
	if (task)
		bpf_task_release(task);
	if (&no_such_function)
		result = no_such_function(1);
	if (&no_such_variable)
		result++;
	return LINUX_KERNEL_VERSION > 1 && CONFIG_BPF && !CONFIG_NO_SUCH_THING;
}

char _license[] SEC("license") = "GPL";
