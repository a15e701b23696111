"""Every door for proxies and workloads; doors parse, call, and map errors, and decide nothing."""
