"""The operator on the demo's cluster: installed from the chart, whatever an interrupted installation has left."""

import json
from dataclasses import dataclass
from pathlib import Path

from diffusion_local.demo.cluster_commands import ClusterCommands
from diffusion_local.source_digest import source_digest

RELEASE = "diffusion-operator"
NAMESPACE = "diffusion-system"
INTERRUPTED = {"pending-install", "pending-upgrade", "pending-rollback", "uninstalling"}
"""States of a release in which Helm refuses every other operation on it."""
SOURCE_PACKAGES = ("diffusion_contract", "diffusion_operator")
SOURCE_ANNOTATION = "diffusion.dev/source-digest"


@dataclass(frozen=True)
class OperatorChart:
    """The chart of the checkout at `repository`."""

    commands: ClusterCommands
    repository: Path

    def install(self, *options: str) -> None:
        """Install the operator or bring it up to date, and wait until it is ready; `options` go to Helm.

        Its pod carries the digest of the sources that it runs, so that edited code is started anew.
        """
        if self._was_interrupted():
            self.commands.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "60s")
        digest = source_digest(self.repository / "operator", SOURCE_PACKAGES)
        annotation = f"podAnnotations.{SOURCE_ANNOTATION.replace('.', chr(92) + '.')}={digest}"
        self.commands.helm(
            *("upgrade", "--install", RELEASE, str(self.repository / "charts" / RELEASE)),
            *("--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"),
            *("--set-string", annotation, *options),
        )

    def _was_interrupted(self) -> bool:
        """Whether a Helm that was killed has left the release in a state that only an uninstallation ends."""
        listing = self.commands.helm("list", "--all", "--namespace", NAMESPACE, "--output", "json")
        return any(item["name"] == RELEASE and item["status"] in INTERRUPTED for item in json.loads(listing))
