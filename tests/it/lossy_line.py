"""A bad line between this machine and a network namespace, for whole packets.

Two TUN devices, one of them moved into the namespace, and between them a queue
of bounded length, a rate, a delay and a share of packets that are lost. Each
packet may be delayed longer, by chance: then others overtake it. TCP at both
ends is the kernel's own. Ends with its standard input, and says how many packets
were lost and how many overtook another one.

Usage: lossy_line.py NAMESPACE DEVICE HERE THERE RATE_BYTES DELAY_MS JITTER_MS LOSS
"""

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000
# Bytes that wait in front of the line; more are dropped, as a router does.
QUEUE_BYTES = 64 * 1024

namespace, device, here, there = sys.argv[1:5]
rate, loss = float(sys.argv[5]), float(sys.argv[8])
delay, jitter = float(sys.argv[6]) / 1000, float(sys.argv[7]) / 1000


def tun(name):
    made = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(made, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return made


def ip(*words):
    subprocess.run(["ip", *words], check=True)


outside, inside = tun(device), tun(device + "x")
ip("link", "set", device + "x", "netns", namespace)
ip("addr", "add", here, "peer", there, "dev", device)
ip("link", "set", device, "up")
ip("-n", namespace, "addr", "add", there, "peer", here, "dev", device + "x")
ip("-n", namespace, "link", "set", device + "x", "up")
ip("-n", namespace, "link", "set", "lo", "up")
print("ready", flush=True)


class Direction:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.under_way = []
        self.free_at = 0.0
        self.numbers = itertools.count()
        self.lost = 0
        self.overtook = 0

    def take(self, now):
        packet = os.read(self.source, 65536)
        waits = max(self.free_at - now, 0.0)
        if waits * rate > QUEUE_BYTES or random.random() < loss:
            self.lost += 1
            return
        self.free_at = now + waits + len(packet) / rate
        # One in five takes a longer way: the reordering of a real network is rare.
        longer = random.random() * jitter if random.random() < 0.2 else 0.0
        due = self.free_at + delay + longer
        heapq.heappush(self.under_way, (due, next(self.numbers), packet))

    def give(self, now):
        while self.under_way and self.under_way[0][0] <= now:
            _, number, packet = heapq.heappop(self.under_way)
            os.write(self.target, packet)
            self.overtook += any(other < number for _, other, _ in self.under_way)


directions = [Direction(outside, inside), Direction(inside, outside)]
while True:
    now = time.monotonic()
    dues = [each.under_way[0][0] for each in directions if each.under_way]
    patience = max(min(dues) - now, 0.0) if dues else None
    readable, _, _ = select.select([outside, inside, sys.stdin], [], [], patience)
    if sys.stdin in readable and not sys.stdin.readline():
        break
    now = time.monotonic()
    for each in directions:
        if each.source in readable:
            each.take(now)
        each.give(now)
lost, overtook = (sum(getattr(each, what) for each in directions) for what in ("lost", "overtook"))
print(lost, overtook, flush=True)
