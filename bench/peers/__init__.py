"""The archives that are compared, with their best documented settings; what is peculiar to one stands in its class."""

from __future__ import annotations

from bench.peers.base import Peer, image_query, sop_instance_in
from bench.peers.dcmtk import Dcmqrscp, StoreScp
from bench.peers.elsewhere import Elsewhere
from bench.peers.fastarchive import Fastarchive
from bench.peers.orthanc import Orthanc, OrthancCompressed, OrthancUnsynced
from bench.peers.ports import HOST, free_port
from bench.peers.pynetdicom import PynetdicomQrScp, PynetdicomStoreScp

__all__ = [
    "HOST",
    "PEERS",
    "Dcmqrscp",
    "Elsewhere",
    "Fastarchive",
    "Orthanc",
    "OrthancCompressed",
    "OrthancUnsynced",
    "Peer",
    "PynetdicomQrScp",
    "PynetdicomStoreScp",
    "StoreScp",
    "free_port",
    "image_query",
    "sop_instance_in",
]

PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Fastarchive,
        Orthanc,
        OrthancUnsynced,
        OrthancCompressed,
        Dcmqrscp,
        StoreScp,
        PynetdicomStoreScp,
        PynetdicomQrScp,
    )
}
"""Everything that can be started, by name."""
