"""The parts of the comparison, in the order in which they run."""

from benchmarks.measuring import Part
from benchmarks.parts import deployment, disconnect, goodbyes, goodput, latency, memory, overhead, throughput, websockets

PARTS: list[Part] = [
    disconnect.PART,
    goodbyes.PART,
    goodput.PART,
    latency.PART,
    overhead.PART,
    throughput.PART,
    memory.PART,
    websockets.PART,
    deployment.PART,
]
