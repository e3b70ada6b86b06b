"""What is built from which Go module, with which flags, and the hash that names the result.

The modules hold no code, only versions; their go.sum pins every source file by hash. The cache folder is named by a
hash over all that shapes the result, so that every checkout with the same versions shares one build.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from diffusion_local.architecture import architecture
from diffusion_local.errors import LocalClusterError
from diffusion_local.user_folders import user_folder

CACHE_VARIABLE = "XDG_CACHE_HOME"
MODULES_FOLDER = Path(__file__).resolve().parents[2]
"""The checkout's `local/`, which holds one folder a Go module."""

KUBERNETES_VERSION = "v1.37.2"
VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
"""Without these flags the server calls itself v0.0.0-master, and Helm's kubeVersion checks fail."""

HELM_VERSION_PACKAGES = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules")
"""Without these flags `helm template` renders for Kubernetes 1.20, which the chart refuses."""

_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")


def _variables(packages: tuple[str, ...], **values: str) -> str:
    return " ".join(f"-X {package}.{key}={value}" for package in packages for key, value in values.items())


@dataclass(frozen=True, eq=False)
class Module:
    """A Go module of tools: `folder` under local/, `tools` as program name to Go package, `minutes` cold on 2 cores."""

    folder: str
    tools: dict[str, str]
    linker_flags: str
    minutes: str

    @property
    def source(self) -> Path:
        """The folder with go.mod and go.sum."""
        return MODULES_FOLDER / self.folder

    def command(self, go: str, output: Path, tools: tuple[str, ...]) -> list[str]:
        """Return the build command for `tools`, which puts the programs into `output`/."""
        packages = [self.tools[tool] for tool in tools]
        return [go, "build", "-trimpath", "-ldflags", self.linker_flags, "-o", f"{output}/", *packages]

    @staticmethod
    def built_name(package: str) -> str:
        """Return the name that `go build -o FOLDER/` gives the program of `package`: its last part but a version."""
        parts = package.split("/")
        return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]

    def content_hash(self) -> str:
        """Return 16 hex digits over go.mod, go.sum, the flags and the processor.

        Raises LocalClusterError where there is no checkout, and so no way to know what to build.
        """
        if not (self.source / "go.mod").exists():
            raise LocalClusterError(
                f"{', '.join(self.tools)} missing, and {self.source} is not there to build from: "
                "run this from a checkout of the repository, or point KUBEBUILDER_ASSETS at a folder with the programs"
            )
        digest = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            digest.update((self.source / file).read_bytes() + b"\0")
        digest.update(f"{self.linker_flags}\0CGO_ENABLED=0 -trimpath\0{architecture()}".encode())
        return digest.hexdigest()[:16]

    def cache_folder(self) -> Path:
        """Return where the programs lie once they are there."""
        return cache_home() / f"{self.folder}-{self.content_hash()}"


CONTROL_PLANE = Module(
    "controlplane",
    {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
    },
    "-s -w "
    + _variables(
        VERSION_PACKAGES, gitVersion=KUBERNETES_VERSION, gitMajor=_MAJOR, gitMinor=_MINOR, gitTreeState="clean"
    ),
    "7 to 11",
)
ETCD = Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, "-s -w", "3")
HELM = Module(
    "helm",
    {"helm": "helm.sh/helm/v3/cmd/helm"},
    "-s -w " + _variables(HELM_VERSION_PACKAGES, k8sVersionMajor=_MAJOR, k8sVersionMinor=_MINOR),
    "2",
)
MODULES = (CONTROL_PLANE, ETCD, HELM)

CLUSTER_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def module_of(program: str) -> Module:
    """Return the module that `program` is built from; KeyError for a program that none has."""
    for module in MODULES:
        if program in module.tools:
            return module
    raise KeyError(program)


def cache_home() -> Path:
    """Return the user's cache folder for these programs."""
    return user_folder(CACHE_VARIABLE, ".cache") / "diffusion-local" / "binaries"
