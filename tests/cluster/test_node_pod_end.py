"""How pods are asked to end: signals, grace, hooks, and what is written before they are gone."""

import pytest

from cluster_fixtures import Kubernetes, wait_for
from node_pods import ENDLESS_GRACE, PROMPT, Pods, pod, python, shell, terminated

OBEDIENT = (
    "import signal,sys,time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))\nprint('up')\ntime.sleep(300)"
)
STUBBORN = (
    "import signal,time\nsignal.signal(signal.SIGTERM, lambda *_: print('no'))\nprint('up')\nwhile True: time.sleep(1)"
)


@pytest.fixture
def pods(cluster: Kubernetes, cluster_namespace: str) -> Pods:
    return Pods(cluster, cluster_namespace)


def held(name: str, *containers: dict[str, object], **spec: object) -> dict[str, object]:
    """A pod that stays in the API when it is deleted, so that its last status can be read."""
    made = pod(name, *containers, **spec)
    return made | {"metadata": {"name": name, "finalizers": ["test.diffusion.dev/hold"]}}


def release(pods: Pods, name: str) -> None:
    pods.patch("pod", name, {"metadata": {"finalizers": None}})
    wait_for(lambda: not pods.exists(name), 30, f"{name} is gone")


def end_of(pods: Pods, name: str, *phases: str) -> dict[str, object]:
    found = pods.wait_phase(name, *phases)
    return terminated(found["status"]["containerStatuses"][0])


def test_sigterm_reaches_the_process_and_its_exit_code_is_kept(pods: Pods) -> None:
    pods.apply(held("obeys", python(OBEDIENT.format(code=75)), terminationGracePeriodSeconds=60))
    pods.wait_log("obeys", "up")
    pods.run("delete", "pod", "obeys", "--wait=false")
    assert end_of(pods, "obeys", "Failed")["exitCode"] == 75
    release(pods, "obeys")


def test_a_process_that_dies_of_sigterm_shows_143(pods: Pods) -> None:
    # A first process hears SIGTERM only if it has a handler, here as in every container.
    script = "trap 'exit 143' TERM; echo up; sleep 300 & wait"
    pods.apply(held("dies", shell(script), terminationGracePeriodSeconds=60))
    pods.wait_log("dies", "up")
    pods.run("delete", "pod", "dies", "--wait=false")
    assert end_of(pods, "dies", "Failed")["exitCode"] == 143
    release(pods, "dies")


def test_a_process_that_does_not_go_is_killed_when_its_grace_is_over(pods: Pods) -> None:
    pods.apply(held("stays", python(STUBBORN), terminationGracePeriodSeconds=2))
    pods.wait_log("stays", "up")
    pods.run("delete", "pod", "stays", "--wait=false")
    end = end_of(pods, "stays", "Failed")
    assert (end["exitCode"], end["reason"]) == (137, "Error")
    release(pods, "stays")


def test_a_deleted_pod_that_ends_well_succeeds(pods: Pods) -> None:
    pods.apply(held("fine", python(OBEDIENT.format(code=0)), restartPolicy="Always"))
    pods.wait_log("fine", "up")
    pods.run("delete", "pod", "fine", "--wait=false")
    assert end_of(pods, "fine", "Succeeded")["exitCode"] == 0
    release(pods, "fine")


def test_pre_stop_runs_before_sigterm(pods: Pods) -> None:
    waits = "trap 'cat /share/said; exit 0' TERM; echo up; while true; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo goodbye > /share/said"]}}}
    mounts = [{"name": "share", "mountPath": "/share"}]
    container = shell(waits, lifecycle=hook, volumeMounts=mounts)
    volumes = [{"name": "share", "emptyDir": {}}]
    pods.apply(held("hooked", container, volumes=volumes, terminationGracePeriodSeconds=60))
    pods.wait_log("hooked", "up")
    pods.run("delete", "pod", "hooked", "--wait=false")
    assert end_of(pods, "hooked", "Succeeded")["exitCode"] == 0
    assert pods.logs("hooked").endswith("goodbye\n")
    release(pods, "hooked")


def test_a_hook_may_use_the_grace_up_and_sigterm_still_comes(pods: Pods) -> None:
    waits = "trap 'echo told; exit 0' TERM; echo up; while true; do sleep 0.1; done"
    container = shell(waits, lifecycle={"preStop": {"exec": {"command": ["sleep", "60"]}}})
    pods.apply(held("long", container, terminationGracePeriodSeconds=2))
    pods.wait_log("long", "up")
    pods.run("delete", "pod", "long", "--wait=false")
    assert end_of(pods, "long", "Succeeded")["exitCode"] == 0
    assert pods.logs("long").endswith("told\n")
    release(pods, "long")


def test_hooks_by_http_after_the_start_and_before_the_stop(pods: Pods) -> None:
    program = """
from http.server import *
class Said(BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("", 8000), Said)
print("up", flush=True)
server.serve_forever()
"""
    pods.apply(pod("listens", python(program)))
    pods.wait_log("listens", "up")
    address = pods.get("listens")["status"]["podIP"]

    def get(path: str) -> dict[str, object]:
        return {"httpGet": {"host": address, "path": path, "port": 8000}}

    container = python(OBEDIENT.format(code=0), lifecycle={"postStart": get("/start"), "preStop": get("/stop")})
    pods.apply(held("hooked-up", container, terminationGracePeriodSeconds=60))
    pods.wait_log("hooked-up", "up")
    pods.wait_log("listens", "/start")
    pods.run("delete", "pod", "hooked-up", "--wait=false")
    assert end_of(pods, "hooked-up", "Succeeded")["exitCode"] == 0
    assert pods.logs("listens") == "up\n/start\n/stop\n"
    release(pods, "hooked-up")


def test_probes_do_not_kill_what_is_ending(pods: Pods) -> None:
    """Liveness fails as soon as the end begins: the hook comes once, and the whole grace is left."""
    end = "rm /tmp/alive; sleep 4; cat /tmp/hooks; exit 0"
    script = f"trap '{end}' TERM; touch /tmp/alive; echo up; while true; do sleep 0.1; done"
    liveness = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "failureThreshold": 1, **PROMPT}
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /tmp/hooks"]}}}
    container = shell(script, livenessProbe=liveness, lifecycle=hook)
    pods.apply(held("ending", container, restartPolicy="Always", terminationGracePeriodSeconds=ENDLESS_GRACE))
    pods.wait_log("ending", "up")
    pods.run("delete", "pod", "ending", "--wait=false")
    assert end_of(pods, "ending", "Succeeded")["exitCode"] == 0
    assert pods.logs("ending").count("hook") == 1
    release(pods, "ending")


def test_a_deleted_pod_is_gone_soon_after_its_process(pods: Pods) -> None:
    pods.apply(pod("quick", python(OBEDIENT.format(code=0)), terminationGracePeriodSeconds=ENDLESS_GRACE))
    pods.wait_log("quick", "up")
    pods.delete("quick")


def test_a_pod_that_never_started_can_be_deleted(pods: Pods) -> None:
    volumes = [{"name": "missing", "configMap": {"name": "does-not-exist"}}]
    pods.apply(pod("waits", shell("true"), volumes=volumes, terminationGracePeriodSeconds=ENDLESS_GRACE))
    pods.wait_waiting("waits", "ContainerCreating")
    pods.delete("waits")


def test_a_second_deletion_without_grace_ends_the_first(pods: Pods) -> None:
    pods.apply(pod("patient", python(STUBBORN), terminationGracePeriodSeconds=ENDLESS_GRACE))
    pods.wait_log("patient", "up")
    pods.run("delete", "pod", "patient", "--wait=false")
    pods.run("delete", "pod", "patient", "--wait=false", "--grace-period=1")
    wait_for(lambda: not pods.exists("patient"), 30, "the pod is gone")


def test_nothing_of_a_container_outlives_its_first_process(pods: Pods) -> None:
    mounts = [{"name": "share", "mountPath": "/share"}]
    leaves = shell(
        "(while true; do date > /share/beat; sleep 0.1; done) & sleep 1; exit 0", "leaves", volumeMounts=mounts
    )
    look = "until cp /share/beat /tmp/a && sleep 2 && cmp /share/beat /tmp/a; do sleep 0.1; done; echo still"
    watches = shell(look, "watches", volumeMounts=mounts)
    pods.apply(pod("alone", watches, leaves, volumes=[{"name": "share", "emptyDir": {}}]))
    pods.wait_phase("alone", "Succeeded")
    assert pods.logs("alone", "-c", "watches").endswith("still\n")
