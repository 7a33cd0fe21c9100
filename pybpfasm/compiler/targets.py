"""From a kernel, as it was probed or measured, to what the compiler makes use of."""

from pybpfasm.ir.target import KernelFacts, Target

AnyTarget = Target | KernelFacts

# What the probes call each feature.
_FEATURES = {
    "store_immediate_to_context": "storing an immediate to the context",
    # Not probed by itself: it came with the same version.
    "stack_by_index": "atomics that fetch",
    "fetching_atomics": "atomics that fetch",
    # Of these only bpf_loop is measured, for one type of program; XDP's copies and dynptrs came
    # one and two versions after it.
    "for_each": "helper bpf_loop in cgroup_sock_addr programs",
    "timers": "helper bpf_loop in cgroup_sock_addr programs",
    "trace_vprintk": "helper bpf_loop in cgroup_sock_addr programs",
    "bpf_loop": "helper bpf_loop in cgroup_sock_addr programs",
    "dynptrs": "helper bpf_loop in cgroup_sock_addr programs",
    "xdp_bytes": "helper bpf_loop in cgroup_sock_addr programs",
    # Of the same version; to ask for one of them means to read the kernel's types, which takes its time.
    "kfuncs": "storing an immediate to the context",
    "may_goto": "may_goto",
    "load_acquire": "store-release",
}


def target_for(kernel: AnyTarget | None) -> Target:
    """What a kernel has of it; without a kernel, what all from Linux 5.10 on have."""
    if kernel is None:
        return Target()
    if isinstance(kernel, Target):
        return kernel
    found = {name: kernel.has(feature) for name, feature in _FEATURES.items()}
    return Target(kernel.name, isa=int(kernel.isa), helpers=kernel.known_helpers, **found)
