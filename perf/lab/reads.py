"""What reads of a store cost its disk: blocks of tables as the server counts them in its metrics, and
bytes as the kernel counts them for its process. With them "larger than the memory" is checked, not
believed.
"""

import re
import urllib.request
from dataclasses import dataclass
from typing import Optional

import machine
from contenders import LabError, Server

ANSWER_S_MAX = 10


@dataclass(frozen=True)
class Reads:
    """Up to one moment."""

    blocks: int
    disk_bytes: int


def metric_sum(text: str, name: str) -> Optional[int]:
    """Over all labels, from Prometheus' text format."""
    found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\d+)$", text, re.M)
    return sum(map(int, found)) if found else None


def metrics_of(server: Server) -> str:
    try:
        with urllib.request.urlopen(server.url + "/metrics", timeout=ANSWER_S_MAX) as answer:
            return answer.read().decode()
    except OSError as error:
        server.check(" when its metrics were asked for")
        raise LabError(f"{server.name} does not tell its metrics: {error}") from error


def reads_of(server: Server) -> Optional[Reads]:
    """Of all its nodes. None for who has no such metric."""
    if not server.contender.block_reads:
        return None
    found = [reads_of_node(node) for node in server.nodes]
    return Reads(sum(its.blocks for its in found), sum(its.disk_bytes for its in found))


def reads_of_node(node: Server) -> Reads:
    blocks = metric_sum(metrics_of(node), node.contender.block_reads)
    disk_bytes = re.search(r"^read_bytes: (\d+)$", machine.read(f"/proc/{node.pid}/io"), re.M)
    if blocks is None or not disk_bytes:
        raise LabError(f"{node.name} does not tell what it reads from the disk")
    return Reads(blocks, int(disk_bytes[1]))


def per_request(before: Optional[Reads], after: Optional[Reads], requests: float,
                answered_per_s: float) -> Optional[dict]:
    if before is None or after is None or requests <= 0:
        return None
    blocks = (after.blocks - before.blocks) / requests
    return {"blocks": blocks, "bytes": (after.disk_bytes - before.disk_bytes) / requests,
            "blocks_per_s": blocks * answered_per_s}
