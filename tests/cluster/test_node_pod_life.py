"""Phases, exit codes, restarts, init containers and the end of pods, as on any cluster."""

import pytest

from cluster_fixtures import Kubernetes, wait_for
from node_pods import Pods, conditions, pod, shell, terminated


@pytest.fixture
def pods(cluster: Kubernetes, cluster_namespace: str) -> Pods:
    return Pods(cluster, cluster_namespace)


def test_a_pod_that_ends_well_succeeds(pods: Pods) -> None:
    pods.apply(pod("ends", shell("echo hello; echo done > /dev/termination-log")))
    found = pods.wait_phase("ends", "Succeeded")
    status = found["status"]["containerStatuses"][0]
    assert terminated(status)["exitCode"] == 0
    assert terminated(status)["reason"] == "Completed"
    assert terminated(status)["message"] == "done\n"
    assert status["restartCount"] == 0
    assert status["containerID"]
    assert not status["ready"]
    ready = next(entry for entry in found["status"]["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    assert pods.logs("ends") == "hello\n"


def test_each_exit_code_is_shown_and_fails_the_pod(pods: Pods) -> None:
    codes = (1, 42, 75, 255)
    pods.apply(*(pod(f"exit-{code}", shell(f"exit {code}")) for code in codes))
    for code in codes:
        found = pods.wait_phase(f"exit-{code}", "Failed")
        end = terminated(found["status"]["containerStatuses"][0])
        assert (end["exitCode"], end["reason"]) == (code, "Error")
        assert end["startedAt"] <= end["finishedAt"]


def test_a_pod_with_one_failed_container_fails_when_the_others_are_done(pods: Pods) -> None:
    pods.apply(pod("mixed", shell("exit 3", "bad"), shell("sleep 1", "good")))
    found = pods.wait_phase("mixed", "Failed")
    ends = {s["name"]: terminated(s)["exitCode"] for s in found["status"]["containerStatuses"]}
    assert ends == {"bad": 3, "good": 0}


def test_the_log_takes_the_place_of_a_missing_message_when_asked(pods: Pods) -> None:
    pods.apply(pod("fallback", shell("echo why it failed; exit 1", terminationMessagePolicy="FallbackToLogsOnError")))
    found = pods.wait_phase("fallback", "Failed")
    assert terminated(found["status"]["containerStatuses"][0])["message"] == "why it failed\n"


def test_the_last_bytes_of_a_message_in_a_place_of_its_own(pods: Pods) -> None:
    script = "head -c 5000 /dev/zero | tr '\\0' x > said; echo end >> said; pwd"
    pods.apply(pod("wordy", shell(script, workingDir="/srv/app", terminationMessagePath="/srv/app/said")))
    found = pods.wait_phase("wordy", "Succeeded")
    message = terminated(found["status"]["containerStatuses"][0])["message"]
    assert len(message) == 4096
    assert message.endswith("xend\n")
    assert pods.logs("wordy") == "/srv/app\n"


def test_a_running_pod_is_ready_with_an_address_and_conditions(pods: Pods) -> None:
    pods.apply(pod("runs", shell("sleep 300")))
    wait_for(lambda: conditions(pods.get("runs")).get("Ready") == "True", 60, "the pod is ready")
    found = pods.get("runs")
    assert found["status"]["podIP"] == found["status"]["podIPs"][0]["ip"]
    assert found["status"]["hostIP"]
    assert found["status"]["qosClass"] == "BestEffort"
    expected = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}
    assert {kind for kind, status in conditions(found).items() if status == "True"} >= expected
    status = found["status"]["containerStatuses"][0]
    assert status["started"]
    assert status["state"]["running"]["startedAt"]


def test_init_containers_run_in_order_before_the_others(pods: Pods) -> None:
    share = [{"name": "share", "mountPath": "/share"}]
    pods.apply(
        pod(
            "ordered",
            shell("cat /share/steps", volumeMounts=share),
            initContainers=[
                shell("echo one >> /share/steps", "first", volumeMounts=share),
                shell("echo two >> /share/steps", "second", volumeMounts=share),
            ],
            volumes=[{"name": "share", "emptyDir": {}}],
        )
    )
    found = pods.wait_phase("ordered", "Succeeded")
    assert pods.logs("ordered") == "one\ntwo\n"
    assert [terminated(s)["exitCode"] for s in found["status"]["initContainerStatuses"]] == [0, 0]
    assert conditions(found)["Initialized"] == "True"


def test_a_failed_init_container_fails_the_pod_and_nothing_else_starts(pods: Pods) -> None:
    pods.apply(pod("stuck", shell("echo never"), initContainers=[shell("exit 9", "first")]))
    found = pods.wait_phase("stuck", "Failed")
    assert terminated(found["status"]["initContainerStatuses"][0])["exitCode"] == 9
    assert found["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert conditions(found)["Initialized"] == "False"


def test_a_sidecar_runs_beside_the_others_and_ends_after_them(pods: Pods) -> None:
    pods.apply(
        pod(
            "aided",
            shell("sleep 1"),
            initContainers=[
                shell("trap 'exit 0' TERM; while true; do sleep 0.2; done", "aide", restartPolicy="Always")
            ],
        )
    )
    found = pods.wait_phase("aided", "Succeeded")
    assert terminated(found["status"]["initContainerStatuses"][0])["exitCode"] == 0


def test_args_alone_are_the_command_of_an_image_without_entry_point(pods: Pods) -> None:
    container = shell("")
    del container["command"]
    pods.apply(pod("told", {**container, "args": ["echo", "by itself"]}))
    pods.wait_phase("told", "Succeeded")
    assert pods.logs("told") == "by itself\n"


def test_events_tell_the_life_of_a_container(pods: Pods) -> None:
    pods.apply(pod("told", shell("trap 'exit 0' TERM; while true; do sleep 0.1; done")))
    pods.wait_phase("told", "Running")
    pods.delete("told")
    wait_for(lambda: "Killing" in pods.events("told"), 20, "the last event")
    told = pods.events("told")
    assert {"Pulled", "Created", "Started", "Killing"} <= told.keys()
    assert told["Killing"]["message"] == "Stopping container main"
    assert told["Started"]["involvedObject"]["fieldPath"] == "spec.containers{main}"


def test_a_container_that_keeps_failing_backs_off(pods: Pods) -> None:
    pods.apply(pod("loops", shell("echo try; exit 7"), restartPolicy="Always"))
    status = pods.wait_waiting("loops", "CrashLoopBackOff")
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert not status["ready"]
    assert pods.get("loops")["status"]["phase"] == "Running"
    assert pods.logs("loops", "--previous") == "try\n"


def test_on_failure_restarts_until_it_works(pods: Pods) -> None:
    keep = [{"name": "keep", "mountPath": "/keep"}]
    pods.apply(
        pod(
            "again",
            shell("test -e /keep/been && exit 0; touch /keep/been; exit 1", volumeMounts=keep),
            restartPolicy="OnFailure",
            volumes=[{"name": "keep", "emptyDir": {}}],
        )
    )
    found = pods.wait_phase("again", "Succeeded")
    status = found["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 1


def test_an_unknown_command_cannot_be_started(pods: Pods) -> None:
    pods.apply(pod("nonsense", {**shell(""), "command": ["no-such-program"]}))
    found = pods.wait_phase("nonsense", "Failed")
    end = terminated(found["status"]["containerStatuses"][0])
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert "no-such-program" in end["message"]


def test_an_unknown_image_is_an_error_and_then_backs_off(pods: Pods) -> None:
    pods.apply(pod("imageless", {**shell("true"), "image": "registry.invalid/no/such/image:1"}))
    wait_for(lambda: any("Error: ErrImagePull" in said for said in pods.told("imageless")), 60, "the image is missed")
    status = pods.wait_waiting("imageless", "ImagePullBackOff")
    assert "registry.invalid/no/such/image:1" in status["state"]["waiting"]["message"]
    assert pods.get("imageless")["status"]["phase"] == "Pending"
    pods.delete("imageless")


def test_the_deadline_of_a_pod_ends_it(pods: Pods) -> None:
    pods.apply(pod("late", shell("trap 'exit 0' TERM; while true; do sleep 0.1; done"), activeDeadlineSeconds=2))
    found = pods.wait_phase("late", "Failed")
    assert found["status"]["reason"] == "DeadlineExceeded"


def test_a_job_follows_the_exit_code_rules(pods: Pods) -> None:
    template = {"spec": pod("x", shell("exit 64"))["spec"]}
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [64, 93]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    spec = {"backoffLimit": 3, "podFailurePolicy": {"rules": rules}, "template": template}
    pods.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "refused"}, "spec": spec})
    wait_for(lambda: conditions(pods.get("refused", "job")).get("Failed") == "True", 60, "the Job failed")
    found = pods.get("refused", "job")["status"]
    assert found["failed"] == 1
    assert {entry["reason"] for entry in found["conditions"]} == {"PodFailurePolicy"}


def test_an_indexed_job_runs_each_index_once(pods: Pods) -> None:
    spec = {
        "completionMode": "Indexed",
        "completions": 3,
        "parallelism": 3,
        "template": {"spec": pod("x", shell("test $JOB_COMPLETION_INDEX -lt 3"))["spec"]},
    }
    pods.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "indexed"}, "spec": spec})
    wait_for(lambda: conditions(pods.get("indexed", "job")).get("Complete") == "True", 60, "the Job is complete")
    assert pods.get("indexed", "job")["status"]["completedIndexes"] == "0-2"
