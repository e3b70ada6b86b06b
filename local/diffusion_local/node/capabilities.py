"""The capabilities that root has in a container, as a container runtime gives them."""

from enum import IntEnum

from diffusion_local.node.configuration import Manifest

Capability = IntEnum(
    "Capability",
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE",
    start=0,
)
"""By number, as linux/capability.h has them."""
USUAL = {
    Capability.AUDIT_WRITE,
    Capability.CHOWN,
    Capability.DAC_OVERRIDE,
    Capability.FOWNER,
    Capability.FSETID,
    Capability.KILL,
    Capability.MKNOD,
    Capability.NET_BIND_SERVICE,
    Capability.NET_RAW,
    Capability.SETFCAP,
    Capability.SETGID,
    Capability.SETPCAP,
    Capability.SETUID,
    Capability.SYS_CHROOT,
}


def capabilities(settings: Manifest) -> list[int]:
    """By number: the usual ones, less those that a securityContext drops, and those that it adds."""
    asked = settings.get("capabilities") or {}
    dropped, added = ({name.removeprefix("CAP_") for name in asked.get(key) or []} for key in ("drop", "add"))
    everything = settings.get("privileged") or "ALL" in added
    kept = set() if "ALL" in dropped else {one for one in USUAL if one.name not in dropped}
    return [int(one) for one in Capability if everything or one in kept or one.name in added]
