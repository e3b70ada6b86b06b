"""`diffusion-trainer`: the worker of a DiffusionTraining, a run on a laptop, and a look at checkpoints and datasets."""

import asyncio
import os
import sys
from pathlib import Path

import click

from diffusion_contract.agent_channel import AgentChannel
from diffusion_contract.names import AGENT_CA_FILE, AGENT_TOKEN_FILE, ENV_AGENT_URL
from diffusion_trainer.log_lines import start_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="diffusion-operator", prog_name="diffusion-trainer")
def main() -> None:
    """Train denoising-diffusion models: in the pods of a DiffusionTraining, or here."""


@main.command()
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="run.json; default: DIFFUSION_CONFIG_FILE"
)
@click.option("--checkpoints", type=click.Path(path_type=Path), help="where checkpoints are kept")
@click.option("--models", type=click.Path(path_type=Path), help="where model versions are published")
@click.option("--scratch", type=click.Path(path_type=Path), help="folder for temporary files")
@click.option("--termination-file", type=click.Path(path_type=Path), help="where the last words are written")
@click.option("--operator-url", envvar=ENV_AGENT_URL, help="https://HOST:PORT of the operator's agent API")
@click.option("--operator-ca", default=AGENT_CA_FILE, show_default=True, help="certificate that signs the operator's")
@click.option("--token-file", default=AGENT_TOKEN_FILE, show_default=True, help="this pod's token for the agent API")
@click.option("--operator-patience-seconds", type=float, hidden=True)
def agent(operator_url: str | None, operator_ca: str, token_file: str, **places: object) -> None:
    """Be the agent of a worker pod (its process 1)."""
    from diffusion_trainer.agent import run_agent
    from diffusion_trainer.settings import settings_from

    settings = settings_from(os.environ, places)
    start_logging(settings.pod)
    if not operator_url:
        raise click.UsageError(
            f"{ENV_AGENT_URL} is not set: this command runs in pods; use `diffusion-trainer run` elsewhere"
        )
    channel = AgentChannel(operator_url, operator_ca, token_file)
    sys.exit(asyncio.run(run_agent(settings, channel)))


@main.command()
@click.option(
    "--config",
    "config_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="run.json",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="folder for checkpoints and models",
)
def run(config_file: Path, output: Path) -> None:
    """Train in this one process, without Kubernetes.

    Ctrl-C saves and ends it. The same command again goes on from the newest checkpoint.
    """
    from diffusion_trainer.local_run import run_here

    sys.exit(run_here(config_file, output))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def checkpoints(folder: Path) -> None:
    """List the checkpoints below FOLDER with their steps and digests, and check every file of each."""
    from diffusion_trainer.checkpoint_listing import listing

    lines, all_hold = listing(folder)
    click.echo("\n".join(lines))
    sys.exit(0 if all_hold else 1)


@main.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def digest(path: Path) -> None:
    """Print the digest of a dataset, as `spec.dataset.digest` takes it: of an .npz file or a folder of images."""
    from diffusion_trainer.dataset_digest import dataset_digest

    try:
        click.echo(dataset_digest(path))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
