"""Histograms as gyre-load writes them: HdrHistogram's V2 encoding in base64, of nanoseconds.

Runs are put together by adding their counters; a percentile of the sum is exact to the counter's
width (1/1000), which no average of percentiles is. A percentile is only given where at least 100
samples lie above it: fewer would make it the property of a few accidents.

  cookie 0x1c849313 (…14: the rest is zlib) | payload bytes | offset | digits | lowest (8) |
  highest (8) | ratio (8) | payload: counters as ZigZag LEB128, a negative one is a run of zeros
"""

import base64
import math
import struct
import zlib
from typing import Iterable, Optional

SAMPLES_ABOVE_MIN = 100
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
SPECTRUM_POINTS = 60

COOKIE, COOKIE_COMPRESSED = 0x1C849313, 0x1C849314
HEADER = struct.Struct(">IIIIqqd")


def is_supported(samples: int, percentile: float) -> bool:
    return samples * (100 - percentile) / 100 >= SAMPLES_ABOVE_MIN - 1e-6


class Histogram:
    """Counters by index. Values are nanoseconds; what is asked of it answers in microseconds."""

    def __init__(self, digits: int = 3):
        self.digits = digits
        self.counts: dict[int, int] = {}
        self.total = 0
        # Half the sub-buckets as a power of two: as many as `digits` digits take.
        self.half_magnitude = max(0, math.ceil(math.log2(2 * 10**digits)) - 1)

    @staticmethod
    def decode(text: str) -> "Histogram":
        data = base64.b64decode(text, validate=True)
        (cookie,) = struct.unpack_from(">I", data)
        if cookie == COOKIE_COMPRESSED:
            (size,) = struct.unpack_from(">I", data, 4)
            data = zlib.decompress(data[8 : 8 + size])
            (cookie,) = struct.unpack_from(">I", data)
        if cookie != COOKIE:
            raise ValueError(f"not a V2 histogram: cookie {cookie:#x}")
        _, size, offset, digits, _, _, _ = HEADER.unpack_from(data)
        payload = data[HEADER.size : HEADER.size + size]
        if offset != 0 or len(payload) != size:
            raise ValueError("not a whole histogram")
        histogram = Histogram(digits)
        index = 0
        for count in zigzags(payload):
            if count < 0:
                index -= count
                continue
            if count > 0:
                histogram.counts[index] = count
                histogram.total += count
            index += 1
        return histogram

    @staticmethod
    def merged(histograms: Iterable["Histogram"]) -> "Histogram":
        merged: Optional[Histogram] = None
        for histogram in histograms:
            if merged is None:
                merged = Histogram(histogram.digits)
            if merged.digits != histogram.digits:
                raise ValueError("histograms of different precision")
            for index, count in histogram.counts.items():
                merged.counts[index] = merged.counts.get(index, 0) + count
            merged.total += histogram.total
        return merged or Histogram()

    def record(self, value_ns: int, count: int = 1) -> None:
        index = self.index_of(value_ns)
        self.counts[index] = self.counts.get(index, 0) + count
        self.total += count

    def index_of(self, value: int) -> int:
        bucket = max(0, value.bit_length() - self.half_magnitude - 1)
        return (bucket << self.half_magnitude) + (value >> bucket)

    def range_of(self, index: int) -> tuple[int, int]:
        """Lowest and highest value of a counter."""
        bucket = max(0, (index >> self.half_magnitude) - 1)
        lowest = (index - (bucket << self.half_magnitude)) << bucket
        return lowest, lowest + (1 << bucket) - 1

    def at(self, percentile: float) -> Optional[float]:
        """Microseconds that at least so many percent don't exceed, whatever the samples say."""
        rows = self.at_each([percentile])
        return rows[0][0] if rows else None

    def at_each(self, percentiles: list[float]) -> list[tuple[float, int]]:
        """(microseconds, samples above) of each, in one walk; percentiles ascend."""
        if self.total == 0:
            return []
        out: list[tuple[float, int]] = []
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            while len(out) < len(percentiles) and seen >= self.rank(percentiles[len(out)]):
                out.append((self.range_of(index)[1] / 1e3, self.total - seen))
            if len(out) == len(percentiles):
                break
        return out

    def rank(self, percentile: float) -> int:
        # The nudge keeps 99.9 % of 1000 at 999 in binary floating point.
        return max(1, math.ceil(percentile / 100 * self.total - 1e-6))

    def mean(self) -> Optional[float]:
        if self.total == 0:
            return None
        middles = ((sum(self.range_of(index)) + 1) // 2 * count
                   for index, count in self.counts.items())
        return sum(middles) / self.total / 1e3

    def summary(self) -> dict:
        """latency_us of a result; null where too few samples lie above."""
        out: dict = {"n": self.total, "min": None, "mean": self.mean()}
        for name, percentile in PERCENTILES.items():
            out[name] = self.at(percentile) if is_supported(self.total, percentile) else None
        out["max"] = None
        if self.total:
            out["min"] = self.range_of(min(self.counts))[0] / 1e3
            out["max"] = self.range_of(max(self.counts))[1] / 1e3
        return out

    def spectrum(self, points: int = SPECTRUM_POINTS) -> list[list[float]]:
        """[percentile, microseconds, samples above], evenly in log(1/(1-p)) up to the last
        percentile that has its samples."""
        reach = self.total / SAMPLES_ABOVE_MIN  # the last one's 1/(1-p)
        if reach < 1:
            return []
        percentiles = [100 * (1 - reach ** (-i / (points - 1))) for i in range(points)]
        values = self.at_each(percentiles)
        return [[round(p, 6), value, above] for p, (value, above) in zip(percentiles, values)]


def zigzags(payload: bytes) -> Iterable[int]:
    value = shift = 0
    for position, byte in enumerate(payload):
        # The ninth byte of a number carries eight bits and ends it.
        if shift == 56:
            value |= byte << shift
        else:
            value |= (byte & 0x7F) << shift
            if byte & 0x80:
                if position == len(payload) - 1:
                    raise ValueError("the histogram's last counter is cut off")
                shift += 7
                continue
        yield (value >> 1) ^ -(value & 1)
        value = shift = 0
