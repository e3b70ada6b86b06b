"""The node agent: a kubelet whose containers are processes of this machine.

For development and tests only: a pod has its own root file system, host name, process table, network and IP, but no
isolation from the machine's user. Not enforced: CPU limits, seccomp and AppArmor profiles, NetworkPolicies, sizes of
emptyDirs on disk. Memory limits are enforced by looking (`memory_watch`), users only where the namespace maps them
(`identity`). `launch_root` says what a container sees; `pod_decisions` and `pod_status` are the pure heart.
"""
