"""The node agent: a kubelet whose containers are processes of this machine.

For development and tests only: a pod has its own root file system, host name, process table and IP, but no isolation
from the machine's user. `launch` documents what a container sees; `pod_decisions` and `pod_status` are the pure heart.
"""
