"""Names that both sides of a pod's border read: labels, environment variables, mount paths, ports, audiences."""

GROUP = "diffusion.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "diffusion-operator"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
PART_OF_LABEL = "app.kubernetes.io/part-of"
TRAINING_LABEL = f"{GROUP}/training"
SERVICE_LABEL = f"{GROUP}/service"
POOL_LABEL = f"{GROUP}/pool"
ATTEMPT_LABEL = f"{GROUP}/attempt"
REVISION_LABEL = f"{GROUP}/revision"
ROLE_LABEL = f"{GROUP}/role"
ENGINE_ROLE = "engine"
ROUTER_ROLE = "router"
IMAGE_TRIAL_ROLE = "image-trial"
RETRY_ANNOTATION = f"{GROUP}/retry"
"""On a DiffusionTraining: another value than before asks once more for a run that has failed."""
SPEC_HASH_ANNOTATION = f"{GROUP}/spec-hash"
"""On every child: the hash of its manifest as it was last sent."""
WORKER_HASH_ANNOTATION = f"{GROUP}/worker-hash"
"""On a Job: the hash of those parts of the spec that its pods were made from."""
TEMPLATE_HASH_ANNOTATION = f"{GROUP}/template-hash"
"""On a Job: the hash of its pod template as it was made."""

TRAINER_CONTAINER = "trainer"
"""Name of the container of a worker pod."""

AGENT_AUDIENCE = f"{GROUP}/agent"
"""Audience of the projected service-account token that a pod shows to the agent API."""

# Environment of every workload pod.
ENV_POD_NAME = "DIFFUSION_POD_NAME"
ENV_POD_UID = "DIFFUSION_POD_UID"
ENV_POD_IP = "DIFFUSION_POD_IP"
ENV_NODE_NAME = "DIFFUSION_NODE_NAME"
ENV_NAMESPACE = "DIFFUSION_NAMESPACE"
ENV_ATTEMPT = "DIFFUSION_ATTEMPT"
ENV_POOL = "DIFFUSION_POOL"
ENV_PROCESSES = "DIFFUSION_PROCESSES"
ENV_AGENT_URL = "DIFFUSION_AGENT_URL"
ENV_CONFIG_FILE = "DIFFUSION_CONFIG_FILE"

# Where the operator mounts things in workload pods.
CONFIG_DIRECTORY = "/etc/diffusion/config"
"""A ConfigMap: `run.json`, `engine.json` or `router.json`, and `agent-ca.crt`."""
AGENT_CA_KEY = "agent-ca.crt"
AGENT_CA_FILE = f"{CONFIG_DIRECTORY}/{AGENT_CA_KEY}"
AGENT_TOKEN_FILE = "/var/run/secrets/diffusion.dev/agent/token"  # noqa: S105 (a path, not a token)
KEYS_DIRECTORY = "/etc/diffusion/keys"
"""The Secret of `auth.keysRef`: one file a key, its name says whose it is, its content is `sha256:<hex>` of the key."""
CHECKPOINT_DIRECTORY = "/var/lib/diffusion/checkpoints"
MODELS_DIRECTORY = "/var/lib/diffusion/models"
SCRATCH_DIRECTORY = "/tmp"  # noqa: S108 (an emptyDir in our pods)
STATE_DIRECTORY = "/var/lib/diffusion/state"
"""An emptyDir: the router keeps its newest routes here, for a restart while the operator is away."""
TERMINATION_FILE = "/dev/termination-log"

AGENT_PORT = 8443
HEALTH_PORT = 8080
METRICS_PORT = 9090
ENGINE_PORT = 8000
ROUTER_PORT = 8080
RENDEZVOUS_PORT = 29500
"""First port of the rendezvous store; generation g listens on RENDEZVOUS_PORT + g % RENDEZVOUS_PORTS."""
RENDEZVOUS_PORTS = 400

TERMINATES_AT_ANNOTATION = f"{GROUP}/terminates-at"
"""On a Node: when its machine ends (RFC 3339). For clouds and tools that know it; our own cluster sets it."""

NOTICE_TAINTS = (
    "aws-node-termination-handler/spot-itn",
    "aws-node-termination-handler/rebalance-recommendation",
    "aws-node-termination-handler/scheduled-maintenance",
    "aws-node-termination-handler/asg-lifecycle-termination",
    "cloud.google.com/impending-node-termination",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "ToBeDeletedByClusterAutoscaler",
)
"""Node taints that announce the end of a node (sources: NTH, GKE, Karpenter now and before 1.0, cluster-autoscaler)."""

NOTICE_CONDITIONS = ("SpotInterruption", "TerminationScheduled")
"""Node conditions that announce the same when they are True."""
