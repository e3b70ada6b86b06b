"""Engines and a router as real processes, with their own sockets, signals and files.

Two engines and a router are shared by the tests that leave them whole; what kills or drains comes last.
"""

import base64
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from deadline import wait_until
from diffusion_contract.agent_messages import Route, RouterInstruction, TerminationMessage
from diffusion_contract.serving_config import RouterConfig
from diffusion_router.route_book import RouteBook
from diffusion_server.command import main
from serving_pods import CLAIM, KEY, MODEL_NAME, REVISION, SAMPLING, Pod, engine_pod, router_pod, write_key
from serving_service import FIRST, NAME, ROUTER, SECOND, Service, client_asking, crowd, first_answer, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("serving")) as made:
        yield made


def differ(one: bytes, other: bytes) -> int:
    """The largest difference of two PNG pictures in grey levels."""
    import io

    from PIL import Image

    first, second = (Image.open(io.BytesIO(png)).tobytes() for png in (one, other))
    assert len(first) == len(second) == 64
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def test_same_seed_same_image_alone_in_a_crowd_and_on_either_engine(service: Service) -> None:
    (alone,) = service.first.images(seed=42, label=3)
    (again,) = service.first.images(seed=42, label=3)
    assert alone == again
    with crowd(service.first, 6, **{"class": "slow"}):
        (crowded,) = service.first.images(seed=42, label=3)
        assert service.first.metric("diffusion_engine_running_rows") > 1, "there was a crowd"
    assert differ(alone, crowded) <= 1
    assert differ(alone, service.second.images(seed=42, label=3)[0]) <= 1
    assert differ(alone, service.router.images(seed=40, label=3, n=3)[2]) <= 1
    assert differ(alone, service.first.images(seed=43, label=3)[0]) > 1


def test_short_requests_join_and_leave_while_long_ones_run(service: Service) -> None:
    with crowd(service.first, 2, **{"class": "slow"}):
        steps_before = service.first.metric("diffusion_engine_outstanding_steps")
        service.first.images(seed=1, steps=2)
        assert service.first.metric("diffusion_engine_outstanding_steps") > 0, "the long ones are still running"
        assert steps_before > 0


def test_the_router_answers_as_the_engine_does_with_the_headers_of_the_api(service: Service) -> None:
    answer = service.router.generate(seed=7, label=1, n=2, model="digits", size="8x8", response_format="b64_json")
    assert answer.status_code == 200
    digest = service.reference.split("@")[1]
    assert answer.headers["x-diffusion-revision"] == REVISION
    assert answer.headers["x-diffusion-model-digest"] == digest
    assert (answer.headers["x-diffusion-seed"], answer.headers["x-diffusion-steps"]) == ("7", "8")
    for name in ("sampler", "queue-ms", "compute-ms", "cache", "image-id"):
        assert answer.headers[f"x-diffusion-{name}"]
    assert [item["seed"] for item in answer.json()["data"]] == [7, 8]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"size": "512x512"}, 400, "invalid_value"),
        ({"steps": 0}, 400, "invalid_value"),
        ({"n": 100}, 400, "invalid_value"),
        ({"label": 10}, 400, "invalid_value"),
        ({"negative_prompt": "x"}, 400, "unknown_parameter"),
        ({"prompt": "x" * 70_000}, 413, "body_too_large"),
    ],
)
def test_a_bad_request_gets_its_code_through_the_router(
    service: Service, asked: dict[str, object], status: int, code: str
) -> None:
    answer = service.router.generate(**asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_rotated_keys_open_both_doors_and_the_old_ones_close(service: Service) -> None:
    keys = service.folder / "keys"
    other = {"Authorization": "Bearer another-key"}
    pods = [Pod(pod.process, pod.url, pod.metrics_url, pod.folder, pod.log_file, other) for pod in service.engines]
    through = Pod(
        service.router.process, service.router.url, service.router.metrics_url, service.folder, service.folder, other
    )
    assert through.generate().status_code == 401
    write_key(keys, "rotated", "another-key")
    wait_until(lambda: all(pod.generate(seed=1, steps=1).status_code == 200 for pod in [*pods, through]), 10, "new key")
    (keys / "rotated").unlink()
    wait_until(lambda: all(pod.generate().status_code == 401 for pod in [*pods, through]), 10, "the old key is refused")
    assert service.router.generate(seed=1, steps=1).status_code == 200


@pytest.mark.parametrize("through_router", [False, True], ids=["engine", "router"])
def test_a_client_that_goes_away_frees_its_rows(service: Service, through_router: bool) -> None:
    service.route_to(FIRST)
    host, port = (ROUTER, 8080) if through_router else (FIRST, 8000)
    before = service.first.metric("diffusion_engine_abandoned_rows_total")
    with client_asking(host, port, n=4, steps=1000):
        wait_until(lambda: service.first.metric("diffusion_engine_running_rows") == 4, 20, "four rows are running")
    wait_until(lambda: service.first.metric("diffusion_engine_running_rows") == 0, 10, "the rows are free")
    assert service.first.metric("diffusion_engine_abandoned_rows_total") == before + 4
    asked = service.router if through_router else service.first
    wait_until(lambda: "gone key=tester path=/v1/images/generations code=499" in asked.log, 10, "a line in the log")
    service.route_to(FIRST, SECOND)


def test_a_full_queue_is_refused_at_once_and_empties_with_its_clients(service: Service) -> None:
    with ExitStack() as clients:
        asking = [clients.enter_context(client_asking(FIRST, 8000, n=10, steps=1000)) for _ in range(20)]
        answer = wait_until(lambda: first_answer(asking), 30, "someone is refused while the others wait")
        assert answer.startswith("HTTP/1.1 429 ")
        assert "retry-after:" in answer.lower()
        assert service.first.status_of("/readyz") == 200
    wait_until(lambda: service.first.metric("diffusion_engine_running_rows") == 0, 20, "the rows are free")
    assert service.first.metric("diffusion_engine_waiting_rows") == 0


def test_work_is_spread_over_the_engines(service: Service) -> None:
    def taken() -> list[float]:
        return [pod.metric("diffusion_engine_images_total") for pod in service.engines]

    before = taken()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: service.router.generate(seed=seed, steps=60), range(16)))
    assert all(answer.status_code == 200 for answer in answers)
    gained = [now - then for now, then in zip(taken(), before, strict=True)]
    assert sum(gained) == 16
    assert min(gained) >= 4


def test_metrics_need_a_key_and_nothing_secret_is_logged(service: Service) -> None:
    service.router.generate(prompt="my very secret wish", seed=987654321)
    for pod in (service.router, *service.engines):
        bare = Pod(pod.process, pod.metrics_url, pod.metrics_url, pod.folder, pod.log_file)
        assert bare.status_of("/metrics") == 401
        assert "secret wish" not in pod.log
        assert KEY not in pod.log
    assert "seed=987654321" in service.router.log


def test_an_image_id_makes_the_picture_again_offline(service: Service, tmp_path: Path) -> None:
    answer = service.router.generate(seed=5, label=2)
    asked = [answer.headers["x-diffusion-image-id"], "--model", service.reference, "--output", str(tmp_path / "a.png")]
    models = ["--models-directory", str(service.folder / "models"), "--scratch-directory", str(tmp_path)]
    drawn = CliRunner().invoke(main, ["draw", *asked, *models])
    assert drawn.exit_code == 0, drawn.output
    served = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert differ((tmp_path / "a.png").read_bytes(), served) <= 1


def test_a_flipped_byte_is_refused_with_64_and_a_reason(service: Service, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(service.folder / "models", models)
    weights = max((models / CLAIM / MODEL_NAME / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    with engine_pod(tmp_path / "pod", models, service.reference, "127.77.0.4", service.folder / "keys") as pod:
        assert pod.process.wait(120) == 64
        said = TerminationMessage.model_validate_json((pod.folder / "termination").read_text())
    assert said.reason == "ModelDigestMismatch"
    assert said.path == "spec.model"
    assert said.message


def test_an_engine_that_still_loads_is_alive_not_ready_and_ends_at_once(service: Service, tmp_path: Path) -> None:
    models, keys = service.folder / "models", service.folder / "keys"
    with engine_pod(tmp_path / "pod", models, service.reference, "127.77.0.6", keys) as pod:
        wait_until(lambda: pod.status_of("/healthz") == 200, 60, "it is alive")
        assert pod.status_of("/readyz") == 503
        assert pod.generate().json()["error"]["code"] == "no_engine_ready"
        pod.terminate()
        assert pod.process.wait(120) == 0


def test_a_router_that_starts_while_the_operator_is_away_knows_its_routes(service: Service, tmp_path: Path) -> None:
    route = Route(revision=REVISION, host=NAME, port=8000, model_digest=service.reference.split("@")[1])
    state = tmp_path / "router" / "state"
    state.mkdir(parents=True)
    RouteBook(state, RouterInstruction()).told(RouterInstruction(routes=(route,)))
    config = RouterConfig(service="digits", namespace="default", sampling=SAMPLING)
    with router_pod(tmp_path / "router", config, {NAME: [FIRST]}, "127.77.0.7", service.folder / "keys") as router:
        router.wait_ready()
        assert router.generate(seed=1, steps=1).status_code == 200


def test_an_engine_that_is_replaced_under_load_costs_no_request(service: Service, tmp_path: Path) -> None:
    """The only engine is told to end while its successor, which is ready, is not in the routers' DNS yet."""
    keys, models, leaver = service.folder / "keys", service.folder / "models", "127.77.0.8"
    answers: list[int] = []
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            answers.append(service.router.generate(seed=1, steps=4).status_code)

    with engine_pod(tmp_path / "leaver", models, service.reference, leaver, keys) as pod, ThreadPoolExecutor(2) as pool:
        pod.wait_ready()
        service.route_to(leaver)
        visitors = [pool.submit(visit) for _ in range(2)]
        try:
            pod.terminate()
            wait_until(lambda: service.router.metric("diffusion_router_ready_engines") == 0, 20, "the router knows")
            seen = len(answers)
            wait_until(lambda: len(answers) > seen + 5, 20, "requests are still answered")
            service.route_to(FIRST)
            assert pod.process.wait(120) == 0
            seen = len(answers)
            wait_until(lambda: len(answers) > seen + 5, 20, "its successor answers")
        finally:
            stop.set()
        for visitor in visitors:
            visitor.result(60)
    assert set(answers) == {200}
    service.route_to(FIRST, SECOND)


# --- from here on the service is taken apart ---------------------------------------------------------------------


def test_a_draining_engine_finishes_its_rows_while_another_takes_new_ones_and_exits_0(service: Service) -> None:
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(service.first.generate, seed=seed, steps=400) for seed in range(2)]
        wait_until(lambda: service.first.metric("diffusion_engine_running_rows") == 2, 20, "two rows are running")
        service.first.terminate()
        wait_until(lambda: service.first.status_of("/readyz") != 200, 10, "readiness is red")
        through = [pool.submit(service.router.generate, seed=seed) for seed in range(3)]
        assert [future.result(60).status_code for future in through] == [200] * 3, "the other engine answers"
        assert [future.result(60).status_code for future in running] == [200] * 2, "what was begun is finished"
    assert service.first.process.wait(120) == 0


def test_when_an_engine_is_killed_the_other_answers_every_request(service: Service) -> None:
    third_host = "127.77.0.5"
    keys, models = service.folder / "keys", service.folder / "models"
    with engine_pod(service.folder / "third", models, service.reference, third_host, keys) as third:
        third.wait_ready()
        service.route_to(SECOND)  # Where this test runs alone, two are known already, and the number says nothing.
        service.route_to(SECOND, third_host)
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(service.router.generate, seed=seed, steps=600) for seed in range(4)]
            wait_until(lambda: third.metric("diffusion_engine_running_rows") >= 1, 20, "the third engine works")
            third.kill()
            assert [future.result(90).status_code for future in running] == [200] * 4, "killed work was done again"
        assert service.router.metric("diffusion_router_retries_total") >= 1


def test_without_engines_a_503_says_when_to_come_back_and_a_new_engine_is_found(service: Service) -> None:
    service.second.kill()
    wait_until(lambda: service.router.metric("diffusion_router_ready_engines") == 0, 20, "the router knows")
    answer = service.router.generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_engine_ready")
    assert int(answer.headers["retry-after"]) >= 1
    assert service.router.status_of("/readyz") == 200, "the router itself is well"


def test_a_router_that_is_told_to_end_turns_red_and_exits_0(service: Service) -> None:
    service.router.terminate()
    wait_until(lambda: service.router.status_of("/readyz") != 200, 10, "readiness is red")
    assert service.router.process.wait(120) == 0
