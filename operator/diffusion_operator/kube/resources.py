"""The kinds that the operator touches, and where the API server serves them. RBAC lists no others."""

from dataclasses import dataclass

from diffusion_contract.names import API_VERSION


@dataclass(frozen=True)
class Resource:
    """One kind: its group and version, its plural, and whether its objects live in a namespace."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of a subresource of it."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{scope}/{self.plural}{tail}"


POD = Resource("v1", "Pod", "pods")
NODE = Resource("v1", "Node", "nodes", namespaced=False)
SERVICE = Resource("v1", "Service", "services")
CONFIG_MAP = Resource("v1", "ConfigMap", "configmaps")
SECRET = Resource("v1", "Secret", "secrets")
CLAIM = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
JOB = Resource("batch/v1", "Job", "jobs")
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments")
REPLICA_SET = Resource("apps/v1", "ReplicaSet", "replicasets")
DISRUPTION_BUDGET = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Resource("events.k8s.io/v1", "Event", "events")
TOKEN_REVIEW = Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
ACCESS_REVIEW = Resource("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False)
TRAINING = Resource(API_VERSION, "DiffusionTraining", "diffusiontrainings")
MODEL_SERVICE = Resource(API_VERSION, "DiffusionService", "diffusionservices")

CHILDREN = (
    JOB,
    POD,
    SERVICE,
    CONFIG_MAP,
    CLAIM,
    DEPLOYMENT,
    REPLICA_SET,
    DISRUPTION_BUDGET,
)
"""What the operator makes, or what is made from it; watched by the managed-by label."""

CUSTOM_RESOURCES = (TRAINING, MODEL_SERVICE)

_BY_KIND = {
    (resource.api_version, resource.kind): resource for resource in (*CHILDREN, *CUSTOM_RESOURCES, NODE, SECRET, LEASE)
}


def resource_of(api_version: str, kind: str) -> Resource:
    """The resource of a manifest or reference; raises LookupError for a kind that the operator never touches."""
    try:
        return _BY_KIND[(api_version, kind)]
    except KeyError:
        raise LookupError(f"the operator does not handle {api_version} {kind}") from None
