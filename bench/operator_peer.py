"""What a bare client takes for the children that the operator made: applied from a list, with the controllers at work.

It knows the manifests beforehand, since the planner is a pure function; it watches nothing, decides nothing, and writes
no status and no events. So it shows what the API server and its controllers need for these objects, whoever makes them.
Their owners are ConfigMaps, which the garbage collector looks up all the same. It applies in a process of its own
(`python -m bench.operator_peer KUBECONFIG`), as the operator does: whoever counts the children is in the other one.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.embedded import REPOSITORY, api_client
from bench.operator_children import Children, Object
from diffusion_operator.kube.apply import stamped
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import CONFIG_MAP, resource_of
from diffusion_operator.loop.kinds import KINDS
from diffusion_operator.loop.settings import OperatorSettings
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.snapshot import Reference, Snapshot

WORKERS = OperatorSettings.workers
"""As many requests at once as the operator works on custom resources."""
PASSES = 3
START_SECONDS = 60.0
FACTS = OperatorFacts(
    namespace="bench",
    agent_url="https://localhost:8443",
    agent_ca="-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    trainer_image="trainer",
    server_image="server",
    router_image="router",
)


def children_of(custom_resource: Object, referenced: Mapping[Reference, Object]) -> Sequence[Object]:
    """The manifests that the operator applies for this custom resource until pods run: it plays the first passes."""
    kind = KINDS[custom_resource["kind"]]
    wanted = {reference: referenced.get(reference) for reference in kind.references(custom_resource)}
    made: dict[str, Object] = {}
    for _ in range(PASSES):
        world = kind.observe(Snapshot(custom_resource, FACTS, tuple(made.values()), referenced=wanted), {})
        plan = kind.decide(world, datetime.now(UTC))
        custom_resource = {**custom_resource, "status": plan.status}
        for manifest in plan.apply:
            name = f"{manifest['kind']} {manifest['metadata']['name']}"
            made[name] = {**manifest, "metadata": {**manifest["metadata"], "uid": name, "resourceVersion": "1"}}
    return list(made.values())


async def seconds_for(
    client: ApiClient, kubeconfig: Path, children: Children, families: Sequence[Sequence[Object]], home: str
) -> float:
    """Seconds until all these children stand in the namespace `home`, each family with an owner of its own."""
    owners = [dict(await client.create(CONFIG_MAP, _owner(number, home))) for number in range(len(families))]
    orders = [_moved(one, owner) for family, owner in zip(families, owners, strict=True) for one in family]
    wanted = {owner["metadata"]["uid"]: len(family) for owner, family in zip(owners, families, strict=True)}
    command = [sys.executable, "-m", "bench.operator_peer", str(kubeconfig)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=REPOSITORY)
    try:
        await _say(process, json.dumps(orders))
        if await _line_from(process) != b"ready\n":
            raise RuntimeError("the peer does not start")
        async with asyncio.TaskGroup() as group:
            began = time.monotonic()
            await _say(process, "go")
            group.create_task(_ends_well(process))
            await children.until(wanted)
            return time.monotonic() - began
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _say(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


async def _line_from(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await asyncio.wait_for(process.stdout.readline(), START_SECONDS)


async def _ends_well(process: asyncio.subprocess.Process) -> None:
    if code := await process.wait():
        raise RuntimeError(f"the peer ended with {code}")


async def _apply(kubeconfig: Path, manifests: Sequence[Object]) -> None:
    """Say that all is ready, wait for a line, and apply these manifests, some at a time."""
    waiting = list(reversed(manifests))

    async def work() -> None:
        while waiting:
            manifest = waiting.pop()
            await client.apply(resource_of(manifest["apiVersion"], manifest["kind"]), manifest)

    async with api_client(kubeconfig) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(work() for _ in range(WORKERS)))


def _owner(number: int, home: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"owner-{number}", "namespace": home}}


def _moved(manifest: Object, owner: Object) -> Object:
    """The manifest, owned by another object, in that object's namespace."""
    metadata = owner["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": metadata["name"], "uid": metadata["uid"]}
    owned = {"controller": True, "blockOwnerDeletion": True, **reference}
    plain = {name: value for name, value in manifest["metadata"].items() if name not in ("uid", "resourceVersion")}
    placed = {**plain, "namespace": metadata["namespace"], "ownerReferences": [owned]}
    return stamped({**manifest, "metadata": placed})


if __name__ == "__main__":
    asyncio.run(_apply(Path(sys.argv[1]), json.loads(sys.stdin.readline())))
