"""The status: whole, in one write, only when it differs, and never over a version that we have not seen."""

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import Resource
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.plan import Manifest


async def put_status(client: ApiClient, resource: Resource, seen: Raw, status: Manifest) -> Raw | None:
    """Make `status` the status of the custom resource that was `seen`; None where it is so already.

    Raises Conflict when the custom resource is no longer as it was seen: look again, decide again.
    """
    if seen.get("status", {}) == status:
        return None
    return await client.replace(resource, {**seen, "status": status}, "status")
