"""The operator as a process: leadership, health, metrics, and being away."""

import json
from typing import Any

import pytest

from cluster_fixtures import apply, get
from crash_scenarios import service, training
from custom_resource_tables import install_crds
from deadline import wait_until
from diffusion_local.cluster import Cluster
from diffusion_operator.observe.snapshot import Raw
from operator_process import fetch, lease_holder, operator, status_writes


@pytest.fixture
def served(control_plane: Cluster) -> Cluster:
    install_crds(control_plane)
    return control_plane


def phase(cluster: Cluster, namespace: str, name: str = "digits") -> str | None:
    said: str | None = get(cluster, "dt", name, "-n", namespace).get("status", {}).get("phase")
    return said


def standing(cluster: Cluster, namespace: str, name: str = "digits") -> str | None:
    """The reason of a service's condition Ready."""
    conditions = get(cluster, "dsv", name, "-n", namespace).get("status", {}).get("conditions", ())
    return next((str(one["reason"]) for one in conditions if one["type"] == "Ready"), None)


def children(cluster: Cluster, namespace: str) -> list[str]:
    selector = "app.kubernetes.io/managed-by=diffusion-operator"
    kinds = "jobs,services,configmaps,persistentvolumeclaims,poddisruptionbudgets,deployments"
    return sorted(
        f"{item['kind']} {item['metadata']['name']}"
        for item in get(cluster, kinds, "-n", namespace, "-l", selector)["items"]
    )


def engines(cluster: Cluster, namespace: str) -> list[int]:
    """How many engine pods each revision's Deployment asks for."""
    found = get(cluster, "deployments", "-n", namespace, "-l", "diffusion.dev/revision")["items"]
    return [item["spec"]["replicas"] for item in found]


def place(item: Raw, namespace: str) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}


def test_it_leads_serves_and_leaves_in_order(served: Cluster, namespace: str) -> None:
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        assert running.says("healthz") == (200, "ok\n")
        assert lease_holder(served, namespace)
        apply(served, place(training(), namespace))
        wait_until(lambda: children(served, namespace), 20, "children")
        wait_until(lambda: phase(served, namespace), 20, "a status")
        secret = get(served, "secret", "diffusion-operator-agent-tls", "-n", namespace)
        assert {"tls.crt", "tls.key", "ca.crt"} <= set(secret["data"])
        assert running.metric("diffusion_operator_leader") == 1
        assert running.metric('diffusion_operator_reconcile_seconds_count{kind="DiffusionTraining"}') > 0
        assert running.end() == 0, running.text()
    assert lease_holder(served, namespace) == "", "the next one must not have to wait"


def test_the_objects_of_its_users_carry_nothing_of_the_framework(served: Cluster, namespace: str) -> None:
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        apply(served, place(training(), namespace), place(service(), namespace))
        wait_until(lambda: phase(served, namespace) and standing(served, namespace), 20, "a status of each kind")
    for kind in ("dt", "dsv"):
        metadata = get(served, kind, "digits", "-n", namespace)["metadata"]
        assert "finalizers" not in metadata
        assert set(metadata.get("annotations", {})) <= {"kubectl.kubernetes.io/last-applied-configuration"}


def test_metrics_are_for_those_who_may_read_them(served: Cluster, namespace: str) -> None:
    served.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    served.kubectl("create", "serviceaccount", "stranger", "-n", namespace)
    role = f"metrics-{namespace}"
    served.kubectl("create", "clusterrole", role, "--verb=get", "--non-resource-url=/metrics")
    served.kubectl(
        "create", "clusterrolebinding", role, f"--clusterrole={role}", f"--serviceaccount={namespace}:reader"
    )
    tokens = {
        who: served.kubectl("create", "token", who, "-n", namespace).stdout.strip() for who in ("reader", "stranger")
    }
    with operator(served, home=namespace, plain=False) as running:
        wait_until(running.leads, 40, "leadership")
        url = f"https://127.0.0.1:{running.metrics}/metrics"
        wait_until(lambda: fetch(url)[0], 10, "the metrics port")
        assert fetch(url)[0] == 401
        assert fetch(url, "nonsense")[0] == 401
        assert fetch(url, tokens["stranger"])[0] == 403
        code, text = fetch(url, tokens["reader"])
        assert code == 200
        assert "diffusion_operator_queue_depth" in text
        assert "diffusion_operator_api_calls_total" in text


def test_a_standby_takes_over_from_a_leader_that_was_killed(served: Cluster, namespace: str) -> None:
    with operator(served, home=namespace) as first:
        wait_until(first.leads, 40, "leadership of the first")
        with operator(served, home=namespace) as second:
            assert second.says() == (200, "standby\n")
            wait_until(lambda: second.metric("diffusion_operator_api_calls_total") > 0, 10, "the standby's metrics")
            assert second.metric("diffusion_operator_leader") == 0
            apply(served, place(training("one"), namespace))
            wait_until(lambda: phase(served, namespace, "one"), 20, "the first one's work")
            first.kill()
            apply(served, place(training("two"), namespace))
            wait_until(second.leads, 30, "leadership of the second")
            wait_until(lambda: phase(served, namespace, "two"), 20, "the second one's work")


def test_a_custom_resource_deleted_while_it_is_down_is_gone_with_all_children_and_stays_so(
    served: Cluster, namespace: str
) -> None:
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        apply(served, place(training(), namespace), place(service(), namespace))
        wait_until(lambda: len(children(served, namespace)) > 4, 20, "children")
        running.kill()
    done = served.kubectl("delete", "dt/digits", "dsv/digits", "-n", namespace, "--timeout=240s")
    assert done.returncode == 0, done.stderr
    # Claims carry a finalizer while pods use them, and no kubelet ends these pods; everything else goes at once.
    wait_until(lambda: not children(served, namespace), 60, "the garbage collector")
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        apply(served, place(training("another"), namespace))
        wait_until(lambda: phase(served, namespace, "another"), 20, "work on something else")
        assert not [name for name in children(served, namespace) if "digits" in name]


def test_a_custom_resource_that_is_replaced_by_force_is_served_each_time(served: Cluster, namespace: str) -> None:
    with operator(served, "--resync-seconds", "1", home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        item = place(training("digits", suspend=True), namespace)
        apply(served, item)
        for _ in range(5):
            wait_until(lambda: phase(served, namespace) == "Suspended", 20, "a status of its own")
            done = served.kubectl("replace", "--force", "--cascade=background", "-f", "-", input=json.dumps(item))
            assert done.returncode == 0, done.stderr
        wait_until(lambda: phase(served, namespace) == "Suspended", 20, "a status of the last one")
        assert running.says("healthz") == (200, "ok\n")


def test_what_changed_while_it_was_away_is_done_when_it_is_back(served: Cluster, namespace: str) -> None:
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        apply(served, place(training(), namespace), place(service(), namespace))
        wait_until(lambda: phase(served, namespace) and standing(served, namespace), 20, "a status of each kind")
        wait_until(lambda: engines(served, namespace) == [2], 20, "a Deployment of engines")
        running.kill()
    before = children(served, namespace)
    served.kubectl("scale", "dsv/digits", "-n", namespace, "--replicas=3")
    served.kubectl(
        "patch", "dt", "digits", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": {"suspend": True}})
    )
    served.kubectl("delete", "poddisruptionbudgets", "--all", "-n", namespace)
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        wait_until(lambda: phase(served, namespace) == "Suspended", 30, "the suspension")
        wait_until(lambda: engines(served, namespace) == [3], 30, "the scaling")
    assert set(before) - {name for name in before if name.startswith(("Job", "PodDis"))} <= set(
        children(served, namespace)
    )


def test_at_rest_it_writes_nothing(served: Cluster, namespace: str) -> None:
    with operator(served, "--resync-seconds", "1", "--watch-namespaces", namespace, home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        before_both = status_writes(served)
        apply(served, place(training(), namespace), place(service(), namespace))
        wait_until(lambda: phase(served, namespace) and children(served, namespace), 20, "children")

        wait_until(lambda: status_writes(served) >= before_both + 2, 20, "a status of each kind, counted")

        def is_at_rest() -> bool:
            before, reconciles = running.writes(served), running.metric("diffusion_operator_reconcile_seconds_count")
            wait_until(
                lambda: running.metric("diffusion_operator_reconcile_seconds_count") >= reconciles + 6, 20, "resyncs"
            )
            return running.writes(served) == before

        wait_until(is_at_rest, 60, "three resyncs of both kinds without a write")


def test_an_outage_of_the_api_server_is_survived(served: Cluster, namespace: str) -> None:
    with operator(served, "--resync-seconds", "5", home=namespace) as running:
        wait_until(running.leads, 40, "leadership")
        apply(served, place(training("before"), namespace), place(service("before"), namespace))
        wait_until(lambda: phase(served, namespace, "before"), 20, "a status")
        wait_until(lambda: standing(served, namespace, "before"), 20, "a status of the service")
        served.stop_apiserver()
        try:
            wait_until(
                lambda: running.says("healthz")[0] != 200 or running.process.poll() is not None, 40, "a red light"
            )
        finally:
            served.start_apiserver()
        assert running.process.wait(timeout=120) == 1, "a leader that cannot renew its lease must end"
    install_crds(served)
    with operator(served, home=namespace) as running:
        wait_until(running.leads, 60, "leadership after the outage")
        apply(served, place(training("after"), namespace), place(service("after"), namespace))
        wait_until(lambda: phase(served, namespace, "after"), 20, "work after the outage")
        wait_until(lambda: standing(served, namespace, "after"), 20, "work on a service after it")
        gone = served.kubectl("delete", "jobs,deployments", "--all", "-n", namespace, "--timeout=60s")
        assert gone.returncode == 0, gone.stderr
        kinds = ("Job before-", "Deployment before-")
        wait_until(
            lambda: all(any(name.startswith(kind) for name in children(served, namespace)) for kind in kinds),
            30,
            "the children of what was there before",
        )
