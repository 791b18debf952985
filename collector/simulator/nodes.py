"""The machines of the world, and what they say: lines in the formats that kernels, daemons and drivers really use.

A line is rendered from 64 bits and its node; nothing else enters, so a line can be told again
at any time.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.simulator.hashing import key_of, mix


class Profile(enum.StrEnum):
    """How talkative a node is."""

    QUIET = "quiet"
    """A line every few minutes."""
    NORMAL = "normal"
    """A line every few seconds."""
    BUSY = "busy"
    """Several lines a second."""


_DECK = (Profile.QUIET,) * 6 + (Profile.NORMAL,) * 3 + (Profile.BUSY,)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine. `key` is the hash that all its records grow from."""

    node_id: str
    key: int
    profile: Profile
    cluster_id: str
    hostname: str
    ip: str
    sn: str
    domain: str
    user_defined_id: str
    topic: str
    pack_prefix: str


def make_nodes(seed: int, count: int, per_cluster: int = 500) -> tuple[Node, ...]:
    """`count` nodes: of each ten in a row six are quiet, three normal and one busy."""
    return tuple(_make_node(seed, index, per_cluster) for index in range(count))


def _make_node(seed: int, index: int, per_cluster: int) -> Node:
    key = key_of("node", seed, index)
    # The optional fields are empty on some machines, as on real ones.
    return Node(
        node_id=f"e01-cn-sim{index + 1:04d}",
        key=key,
        profile=_profile(seed, index),
        cluster_id=f"i1100000000000000{seed % 1000:03d}{index // per_cluster + 1:02d}",
        hostname=f"gpu-{index + 1:04d}",
        ip=f"10.{index >> 16 & 0xFF}.{index >> 8 & 0xFF}.{index & 0xFF}",
        sn=f"21A4{key & 0xFFFFFF:06X}" if key >> 24 & 7 else "",
        domain="ALIYUN_PUBLIC" if key >> 28 & 3 else "",
        user_defined_id=f"application_{'abcd'[key >> 32 & 3]}" if key >> 36 & 3 else "",
        topic="logserver" if key >> 40 & 1 else "log2sls",
        pack_prefix=f"{mix(key):016X}",
    )


def _profile(seed: int, index: int) -> Profile:
    # Dealt from a shuffled deck rather than thrown, so that a small world has every kind too.
    deck, place = divmod(index, len(_DECK))
    cards = sorted(range(len(_DECK)), key=lambda card: key_of("profile", seed, deck, card))
    return _DECK[cards[place]]


Render = Callable[[int, Node], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of line. `weight` is its share among 1,000 or so; `storm` kinds also come in bursts."""

    weight: int
    facility: str
    severity: str
    tag: str
    path: str
    render: Render
    storm: bool = False

    @property
    def is_everyday(self) -> bool:
        """Whether the line reports no fault of the node or of its jobs."""
        return self.tag not in ("kernel", "trainer") or (self.severity == "info" and self.tag != "kernel")


_GPU_BUSES = ("0000:0e", "0000:13", "0000:3b", "0000:5d", "0000:86", "0000:9a", "0000:cb", "0000:d8")
_CARD_BUSES = ("0000:19", "0000:5c", "0000:99", "0000:db")
_FABRIC_SWITCHES = ("0000:c3", "0000:c4", "0000:c5", "0000:c6")
_FABRIC_ERRORS = (
    "12028, Non-fatal, Link {link:02d} egress non-posted PRIV error (First)",
    "20034, Fatal, Link {link:02d} LTSSM Fault Up",
    "22013, Non-fatal, Link {link:02d} Minion Link DLREQ interrupt",
)
_FABRIC_DETAILS = (
    "12028, Severity 0 Engine instance {link:02d} Sub-engine instance 00",
    "20034, Severity 1 Engine instance {link:02d} Sub-engine instance 00",
    "20034, Data {{0x{data:08x}, 0x10100030, 0x00000000, 0x10100030, 0x00000000, 0x00000000}}",
)
_JOBS = ("llm-pretrain-7b", "sft-qwen", "diffusion-xl", "asr-finetune", "rerank", "eval-suite")
_USERS = ("root", "admin", "ops", "deploy", "oracle", "ubuntu")
_PROCESSES = ("python3", "ray::worker", "torchrun", "java", "node", "nccl-tests")
_DISKS = ("nvme0n1", "nvme1n1", "nvme2n1p1", "sda")
_VOLUMES = ("cpfs-0a1b2c", "cpfs-3d4e5f", "nas-77aa01")


def _bus(h: int) -> str:
    return _GPU_BUSES[h & 7]


def _pid(h: int) -> int:
    return 300 + (h >> 8) % 4_000_000


def _pod(h: int) -> str:
    return f"{_JOBS[(h >> 16) % 6]}-worker-{(h >> 20) % 64}"


def _uptime(h: int) -> str:
    return f"{(h >> 4) % 9_000_000}.{(h >> 30) % 1_000_000:06d}"


LINES: tuple[Line, ...] = (
    # Everyday talk.
    Line(150, "daemon", "info", "systemd[1]", "/var/log/messages",
         lambda h, n: f"Started Session {h % 90_000} of User {_USERS[(h >> 20) % 6]}."),
    Line(90, "daemon", "info", "systemd[1]", "/var/log/messages",
         lambda h, n: f"run-containerd-runc-k8s.io-{h:016x}.mount: Deactivated successfully."),
    Line(80, "authpriv", "info", "sshd", "/var/log/secure",
         lambda h, n: f"Accepted publickey for {_USERS[h % 6]} from 10.{h >> 8 & 255}.{h >> 16 & 255}.{h >> 24 & 255} "
                      f"port {1024 + (h >> 32) % 64_000} ssh2: RSA SHA256:{h:016x}{h >> 7:015x}"),
    Line(40, "authpriv", "info", "sshd", "/var/log/secure",
         lambda h, n: f"Failed password for invalid user {_USERS[h % 6]} from 192.168.{h >> 8 & 255}.{h >> 16 & 255} "
                      f"port {1024 + (h >> 32) % 64_000} ssh2", storm=True),
    Line(130, "daemon", "info", "kubelet", "/var/log/messages",
         lambda h, n: f'I1009 {h % 24:02d}:{(h >> 8) % 60:02d}:{(h >> 16) % 60:02d}.{(h >> 24) % 1_000_000:06d} '
                      f'{_pid(h)} kubelet.go:2425] "SyncLoop (PLEG): event for pod" pod="pai-dlc/{_pod(h)}" '
                      f'event={{"ID":"{h:016x}","Type":"ContainerStarted"}}'),
    Line(60, "daemon", "err", "kubelet", "/var/log/messages",
         lambda h, n: f'E1009 {h % 24:02d}:{(h >> 8) % 60:02d}:{(h >> 16) % 60:02d}.{(h >> 24) % 1_000_000:06d} '
                      f'{_pid(h)} pod_workers.go:1300] "Error syncing pod, skipping" err="failed to '
                      f'\\"StartContainer\\" for \\"trainer\\" with CrashLoopBackOff: \\"back-off {(1 << h % 6) * 10}s '
                      f'restarting failed container\\"" pod="pai-dlc/{_pod(h)}"', storm=True),
    Line(110, "daemon", "info", "containerd", "/var/log/messages",
         lambda h, n: f'time="2025-10-09T{h % 24:02d}:{(h >> 8) % 60:02d}:{(h >> 16) % 60:02d}Z" level=info '
                      f'msg="StopPodSandbox for \\"{h:016x}\\" returns successfully"'),
    Line(50, "cron", "info", "CRON", "/var/log/cron",
         lambda h, n: "(root) CMD (/usr/lib64/sa/sa1 1 1)"),
    Line(40, "daemon", "notice", "chronyd", "/var/log/messages",
         lambda h, n: f"Selected source 100.100.{h % 62}.{h >> 8 & 255} (ntp.cloud.aliyuncs.com)"),
    Line(30, "user", "notice", "ilogtail", "/var/log/messages",
         lambda h, n: f"心跳正常 节点={n.hostname} 延迟={h % 400}ms ✓"),
    Line(20, "user", "info", "trainer", "/var/log/messages",
         lambda h, n: f"step={h % 500_000}\tloss={(h >> 20) % 9000 / 1000:.3f}\tlr=1e-{h % 5 + 3}\tC:\\data\\{h % 99}"),
    # Collective communication.
    Line(30, "user", "warning", "trainer", "/var/log/messages",
         lambda h, n: f"{n.hostname}:{_pid(h)}:{_pid(h) + 40} [{h & 7}] NCCL WARN NET/IB : Got completion from peer "
                      f"10.{h >> 8 & 255}.{h >> 16 & 255}.{h >> 24 & 255}<{20_000 + h % 30_000}> with "
                      f"status=12 opcode=0 len=0 vendor err 129 (Recv)", storm=True),
    Line(20, "user", "err", "trainer", "/var/log/messages",
         lambda h, n: f"[rank{h % 512}]:[E ProcessGroupNCCL.cpp:{(h >> 12) % 900 + 100}] [PG ID 0 PG GUID "
                      f"0(default_pg) Rank {h % 512}] Watchdog caught collective operation timeout: "
                      f"WorkNCCL(SeqNum={(h >> 20) % 900_000}, "
                      f"OpType=ALLREDUCE, NumelIn={(h >> 30) % 90_000_000}, NumelOut={(h >> 30) % 90_000_000}, "
                      f"Timeout(ms)=600000) ran for "
                      f"600{h % 999:03d} milliseconds before timing out.\nStack trace of the collective not found"),
    # GPUs and their fabric.
    Line(8, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"[{_uptime(h)}] NVRM: Xid (PCI:{_bus(h)}:00): 79, pid={_pid(h)}, GPU has fallen off the bus."),
    Line(12, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"NVRM: Xid (PCI:{_bus(h)}:00): 31, pid={_pid(h)}, name={_PROCESSES[h >> 40 & 3]}, "
                      f"Ch {h % 99:08x}, intr 00000000. MMU Fault: ENGINE GRAPHICS GPC{h >> 16 & 7} "
                      f"GPCCLIENT_T1_{h & 7} faulted @ 0x7f{h >> 24 & 0xFF:02x}_{h >> 32:08x}. "
                      "Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ",
         storm=True),
    Line(6, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"NVRM: Xid (PCI:{_bus(h)}:00): 48, pid='<unknown>', name=<unknown>, DBE (double bit error) ECC "
                      f"Error: physical address 0x{h >> 20:011x}"),
    Line(6, "kern", "warning", "kernel", "/var/log/kern",
         lambda h, n: f"NVRM: Xid (PCI:{_bus(h)}:00): 63, pid={_pid(h)}, Row Remapper: New row (0x{h:016x}) "
                      "marked for remapping, reset gpu to activate."),
    Line(6, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"NVRM: Xid (PCI:{_bus(h)}:00): 94, pid={_pid(h)}, Contained: SM (0x{h & 7:x}). "
                      "RST: No, D-RST: No"),
    Line(5, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"NVRM: Xid (PCI:{_bus(h)}:00): 119, pid={_pid(h)}, name={_PROCESSES[h >> 40 & 3]}, "
                      f"Timeout after 6s of waiting for RPC response from GPU{h & 7} GSP! "
                      f"Expected function 76 (GSP_RM_CONTROL) (0x20801{h >> 20 & 0xFFF:03x} 0x{h >> 32 & 0xFF:x})."),
    Line(6, "kern", "crit", "kernel", "/var/log/kern",
         lambda h, n: f"nvidia-nvswitch{h & 3}: SXid (PCI:{_FABRIC_SWITCHES[h & 3]}:00.0): "
                      + _FABRIC_ERRORS[h % 3].format(link=(h >> 8) % 64), storm=True),
    Line(4, "kern", "crit", "kernel", "/var/log/kern",
         lambda h, n: f"nvidia-nvswitch{h & 3}: SXid (PCI:{_FABRIC_SWITCHES[h & 3]}:00.0): "
                      + _FABRIC_DETAILS[h % 3].format(link=(h >> 8) % 64, data=h >> 32)),
    Line(4, "user", "err", "trainer", "/var/log/messages",
         lambda h, n: "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
    # Network.
    Line(16, "kern", "warning", "kernel", "/var/log/kern",
         lambda h, n: f"bond0: (slave eth{h & 1}): link status definitely down, disabling slave"),
    Line(16, "kern", "info", "kernel", "/var/log/kern",
         lambda h, n: f"mlx5_core {_CARD_BUSES[h >> 4 & 3]}:00.0 eth{h >> 4 & 3}: "
                      f"Link {('up', 'down')[h >> 8 & 1]}", storm=True),
    # Memory and processors.
    Line(12, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"Out of memory: Killed process {_pid(h)} ({_PROCESSES[h >> 40 & 3]}) "
                      f"total-vm:{h % 900_000_000}kB, anon-rss:{(h >> 8) % 200_000_000}kB, file-rss:{h & 4095}kB, "
                      f"shmem-rss:0kB, UID:0 pgtables:{(h >> 20) % 90_000}kB oom_score_adj:{(h >> 30) % 1000}"),
    Line(12, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"Memory cgroup out of memory: Killed process {_pid(h)} ({_PROCESSES[h >> 40 & 3]}) "
                      f"total-vm:{h % 90_000_000}kB, anon-rss:{(h >> 8) % 80_000_000}kB, file-rss:{h & 4095}kB, "
                      f"shmem-rss:0kB, UID:0 pgtables:{(h >> 20) % 90_000}kB oom_score_adj:{(h >> 30) % 1000}"),
    Line(6, "kern", "alert", "kernel", "/var/log/kern",
         lambda h, n: f"mce: [Hardware Error]: CPU {h % 192}: Machine Check: 0 Bank {h % 20}: "
                      f"{0x8C00000000000000 | h >> 16:016x}"),
    Line(8, "kern", "warning", "kernel", "/var/log/kern",
         lambda h, n: f"EDAC MC{h & 1}: 1 CE memory read error on CPU_SrcID#{h & 1}_MC#{h >> 1 & 3}_Chan#{h >> 3 & 1}"
                      f"_DIMM#0 (channel:{h >> 3 & 1} slot:0 page:0x{h >> 36:x} offset:0x{h & 0xFC0:x} grain:32 "
                      f"syndrome:0x0 - err_code:0x0101:0x0090)"),
    Line(6, "kern", "emerg", "kernel", "/var/log/kern",
         lambda h, n: f"watchdog: BUG: soft lockup - CPU#{h % 192} stuck for {20 + h % 40}s! "
                      f"[{_PROCESSES[h >> 40 & 3]}:{_pid(h)}]"),
    # Storage.
    Line(8, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"EXT4-fs error (device {_DISKS[h & 3]}): ext4_find_entry:1463: inode #{(h >> 8) % 9_000_000}: "
                      f"comm {_PROCESSES[h >> 40 & 3]}: reading directory lblock 0"),
    Line(6, "kern", "err", "kernel", "/var/log/kern",
         lambda h, n: f"blk_update_request: I/O error, dev {_DISKS[h & 3]}, sector {h >> 28} op 0x0:(READ) flags 0x0 "
                      "phys_seg 1 prio class 0"),
    Line(10, "kern", "warning", "kernel", "/var/log/kern",
         lambda h, n: f"nfs: server {_VOLUMES[h % 3]}.cn-wulanchabu.cpfs.aliyuncs.com not responding, timed out",
         storm=True),
    # Text that breaks careless parsers.
    Line(10, "user", "notice", "app", "/var/log/messages",
         lambda h, n: f'payload="{{\\"id\\": {h % 9999}, \\"note\\": \\"it\'s\\\\fine\\"}}" emoji=🚀 '
                      f"separator=\u2028 tab=\t."),
    Line(6, "user", "debug", "app", "", lambda h, n: ""),
)  # fmt: skip
"""Every kind of line; the last has an empty message and no path."""

_TABLE_SIZE = 1024


def _spread(lines: Sequence[Line]) -> tuple[Line, ...]:
    """A table in which each line stands as often as its weight says, whatever the weights add up to."""
    total = sum(line.weight for line in lines)
    table: list[Line] = []
    so_far = 0
    for line in lines:
        so_far += line.weight
        table += [line] * (round(so_far * _TABLE_SIZE / total) - len(table))
    return tuple(table)


TABLE = _spread(LINES)
"""Indexed by ten bits: the share of a line follows its weight."""

EVERYDAY_TABLE = _spread([line for line in LINES if line.is_everyday])
"""The same, without lines that report a fault."""

STORMS = tuple(line for line in LINES if line.storm)
"""The lines that a burst repeats."""
