"""The training pod: agent, data, training loop and checkpoints. Begin with `agent.py` or `trainer_process.py`.

    command.py             `diffusion-trainer`
    local_run.py           a run on a laptop: one process, without agent and operator
    log_lines.py           what all of them log like

The agent, process 1, which imports no torch:
    agent.py               starts the processes, tells them what the operator says, and ends the pod
    operator_link.py       the thread that polls the operator
    child_process.py       a trainer process as the agent knows it, and how one that hangs is found
    worker_report.py       from what the processes say to what the pod reports, and its exit code
    settings.py            what the pod knows about itself
    thread_limits.py       how many threads each process may use

Between the processes:
    zygote.py              has imported the libraries, and is forked for each trainer process and its writer
    own_process.py         what a process asks the kernel
    packets.py             how they hear each other
    process_messages.py    what they say

A trainer process, from one generation to the next:
    trainer_process.py     its life
    inbox.py, reporter.py  its ears and its mouth
    accelerator.py         its device
    placement.py           who is which rank
    rendezvous.py          members meet, and break off where one hangs
    group.py               the collectives of a generation, and accelerate set up for it
    peer_watch.py          gets it out of a collective with a peer that hangs
    nccl_watch.py          and out of one of NCCL's whose peer has died
    state_agreement.py     whose state the members go on with
    resumption.py          the checkpoint that they go on with where nobody holds a state
    departure.py           who leaves, and what is saved before
    finish.py              the last commit; publication.py makes it a model version

Training:
    training_loop.py       the steps of a generation
    training_state.py      weights, optimizer, average, counters
    sampler.py             which samples a step uses
    learning_rate.py, rng.py, live_config.py

Data:
    dataset.py             what is trained on, checked once; image_folder.py reads folders
    dataset_digest.py      what a run says that it was trained on
    dataset_faults.py      whose fault it is that data cannot be read
    refusal.py             what a run is refused with

Checkpoints:
    snapshot.py            all ranks give their part at a step
    saver.py               hands snapshots to the writer process
    manifest_of.py, code_version.py   all of a checkpoint that is no tensor
    checkpoint/            the writer, the protocol on the volume, and who reads it
    checkpoint_listing.py  what `diffusion-trainer checkpoints` prints
"""
