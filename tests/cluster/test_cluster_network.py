"""Names and addresses as any cluster has them."""

from cluster_fixtures import Kubernetes, apply
from cluster_objects import output_of, python_pod, wait_ready, web_pod


def service(namespace: str, name: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, **spec},
    }


def test_a_service_is_reached_by_its_name_and_leads_to_every_ready_pod(
    cluster: Kubernetes, cluster_namespace: str
) -> None:
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    apply(
        cluster,
        service(cluster_namespace, "web", ports=ports),
        web_pod(cluster_namespace, "one", labels={"app": "web"}),
        web_pod(cluster_namespace, "two", labels={"app": "web"}),
    )
    wait_ready(cluster, cluster_namespace, "one", "two")
    program = f"""
import socket, time, urllib.request
seen, end = set(), time.monotonic() + 240
while len(seen) < 2 and time.monotonic() < end:
    try:
        seen.add(urllib.request.urlopen("http://web.{cluster_namespace}.svc", timeout=60).read().decode())
    except OSError:
        time.sleep(0.1)
print(sorted(seen))
"""
    apply(cluster, python_pod(cluster_namespace, "asker", program))
    assert output_of(cluster, cluster_namespace, "asker").strip() == "['one', 'two']"


def test_a_pod_behind_a_headless_service_has_a_name_of_its_own(cluster: Kubernetes, cluster_namespace: str) -> None:
    apply(
        cluster,
        service(cluster_namespace, "group", clusterIP="None", publishNotReadyAddresses=True),
        web_pod(cluster_namespace, "first", labels={"app": "group"}, hostname="first", subdomain="group"),
    )
    wait_ready(cluster, cluster_namespace, "first")
    program = f"""
import socket, time
def address(name, end=time.monotonic() + 240):
    while time.monotonic() < end:
        try:
            return socket.gethostbyname(name)
        except OSError:
            time.sleep(0.1)
print(address("first.group.{cluster_namespace}.svc.cluster.local"), address("group.{cluster_namespace}.svc"))
"""
    apply(cluster, python_pod(cluster_namespace, "asker", program))
    shown = cluster.kubectl("get", "pod", "first", "-n", cluster_namespace, "-o", "jsonpath={.status.podIP}").stdout
    assert output_of(cluster, cluster_namespace, "asker").split() == [shown, shown]


def test_a_pod_reaches_the_api_server_as_its_service_account(cluster: Kubernetes, cluster_namespace: str) -> None:
    program = """
import os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
context = ssl.create_default_context(cafile=folder + "ca.crt")
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
request = urllib.request.Request(url + "/version", headers={"Authorization": "Bearer " + open(folder + "token").read()})
print(urllib.request.urlopen(request, context=context, timeout=60).status)
"""
    apply(cluster, python_pod(cluster_namespace, "asker", program))
    assert output_of(cluster, cluster_namespace, "asker").strip() == "200"
