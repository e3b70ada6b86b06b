"""`python -m diffusion_local` is `diffusion-local`."""

from diffusion_local.command import main

main(prog_name="diffusion-local")
