"""The mathematics of diffusion models, and nothing that runs for long: schedules, objectives, denoisers, samplers, EMA.

Everything here is a function of its arguments. Randomness comes from (seed, position), never from global state, so a
training run can change its world size and an image can be made again in any batch. Only `accelerator` looks at the
machine: whether there is a GPU to compute on. The modules are imported by name: this file imports none of them, since
torch and diffusers take seconds to load.

Sources: DDPM (Ho et al., arXiv 2006.11239), cosine schedule (Nichol and Dhariwal, arXiv 2102.09672), DDIM (Song et
al., arXiv 2010.02502), rectified flow (Liu et al., arXiv 2209.03003; Esser et al., arXiv 2403.03206), classifier-free
guidance (Ho and Salimans, arXiv 2207.12598), DiT (Peebles and Xie, arXiv 2212.09748).
"""
