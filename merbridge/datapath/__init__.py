"""The datapath in the kernel: its programs, maps and pins, which outlive the agent."""
