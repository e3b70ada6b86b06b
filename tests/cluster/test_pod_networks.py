"""Each pod has a network of its own, as any cluster gives it."""

from cluster_fixtures import Kubernetes, apply, get
from cluster_objects import output_of, python_pod, wait_ready, web_pod


def test_two_pods_bind_one_port_on_all_addresses(cluster: Kubernetes, cluster_namespace: str) -> None:
    apply(cluster, web_pod(cluster_namespace, "one"), web_pod(cluster_namespace, "two"))
    wait_ready(cluster, cluster_namespace, "one", "two")
    addresses = [get(cluster, "pod", name, "-n", cluster_namespace)["status"]["podIP"] for name in ("one", "two")]
    program = f"""
import urllib.request
print([urllib.request.urlopen(f"http://{{address}}:8000", timeout=10).read().decode() for address in {addresses}])
"""
    apply(cluster, python_pod(cluster_namespace, "asker", program))
    assert output_of(cluster, cluster_namespace, "asker").strip() == "['one', 'two']"


def test_an_interface_carries_the_address_that_the_host_name_stands_for(
    cluster: Kubernetes, cluster_namespace: str
) -> None:
    """Libraries for collectives (gloo, NCCL) look for it, and do not start without."""
    program = """
import pathlib, socket
address = socket.gethostbyname(socket.gethostname())
print(address, address in pathlib.Path("/proc/net/fib_trie").read_text(), len(socket.if_nameindex()) > 1)
"""
    apply(cluster, python_pod(cluster_namespace, "finder", program))
    output = output_of(cluster, cluster_namespace, "finder").split()
    address = get(cluster, "pod", "finder", "-n", cluster_namespace)["status"]["podIP"]
    assert output == [address, "True", "True"]
