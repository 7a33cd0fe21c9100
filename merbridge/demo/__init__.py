"""A small Kubernetes node made of network namespaces and cgroups: for the demo and for the datapath's tests."""
