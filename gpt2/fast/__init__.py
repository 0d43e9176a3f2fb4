"""Optional kernels: the same results in less time."""
