"""Volumes at work, on a server that answers as it is told."""

from pathlib import Path
from typing import Any

from diffusion_local import claims
from diffusion_local.node.api_client import ApiClient
from diffusion_local.provisioner import CLASSES, Provisioner
from tiny_api import TinyApi, with_tiny_api, written

VOLUMES = "/api/v1/persistentvolumes"


def claim(name: str, storage_class: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "annotations": {claims.TO_PROVISION_BY: claims.PROVISIONER},
        },
        "spec": {
            "storageClassName": storage_class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def test_a_claim_whose_class_was_deleted_keeps_no_other_from_its_volume(tmp_path: Path) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("GET", f"{CLASSES}/gone", (404, {"message": "not found"}))
        server.answer("GET", f"{CLASSES}/local", (200, {"metadata": {"name": "local"}}))
        server.answer("POST", VOLUMES, (201, {}))
        provisioner = Provisioner(client, tmp_path)
        for one in (claim("first", "gone"), claim("second", "local")):
            provisioner._claims.objects["ns", one["metadata"]["name"]] = one
        assert not await provisioner._apply(), "the first is to be tried again"
        assert [volume["spec"]["claimRef"]["name"] for volume in written(server, "POST", VOLUMES)] == ["second"]

    with_tiny_api(test)
    assert [folder.name for folder in tmp_path.iterdir()] == ["pvc-second"]


def test_a_volume_goes_with_its_folder_once_its_claim_is_gone(tmp_path: Path) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("DELETE", f"{VOLUMES}/pvc-1", (404, {}))
        provisioner = Provisioner(client, tmp_path)
        (tmp_path / "pvc-1" / "below").mkdir(parents=True)
        volume = claims.volume_for(claim("1", "local"), {"metadata": {"name": "local"}}, str(tmp_path / "pvc-1"))
        provisioner._volumes.objects["", "pvc-1"] = volume | {"status": {"phase": "Released"}}
        assert await provisioner._apply()

    with_tiny_api(test)
    assert not list(tmp_path.iterdir())
