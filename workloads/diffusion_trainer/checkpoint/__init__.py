"""Checkpoints: snapshot at a step boundary, write beside the training, commit by one rename, read back with doubt.

    shard_image.py      a safetensors file as preallocated memory, filled at a step boundary
    ../saver.py         the trainer's side: hands snapshots to the writer, never two at once
    writer_messages.py  what the two say to each other
    writer.py           the writer process: takes a snapshot, commits it, verifies it, removes old ones
    commit.py           the protocol on the file system: temporary folder, fsync, manifest last, fence, rename
    names.py            what files and folders are called on the way and afterwards
    pointer.py          `latest`, for people and other tools
    durable.py          files that are there after a power cut
    read_back.py        what was written, compared with the snapshot
    aside.py            a checkpoint in the way of one of the same step
    fencing.py          an older attempt cannot commit
    verification.py     what is there, and the newest of it whose digests hold
    retention.py        what may go

Nothing here unpickles anything: tensors are safetensors, the rest is JSON.
"""
