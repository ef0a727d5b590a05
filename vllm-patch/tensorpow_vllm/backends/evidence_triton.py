"""Evidence by one Triton kernel, a program for each row.

Logits of 16 bits are ordered by integers of 16 bits, so two histograms, of the upper ten bits and
of the lower six within three bins of the first, give the values of ranks 50, 500 and 2000 exactly.
A row is read four times, from the cache after the first: extremes, the first histogram, the second
with the sum of exponentials, and last the sums by rank with the 50 leading entries, which are then
sorted by counting who leads whom. Nothing is sorted that is as long as the vocabulary.

Not measured: it has run in Triton's interpreter only.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from importlib import import_module
from typing import Any

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from tensorpow_vllm.backends.device import WIDTH

BLOCK = 4096
WARPS = 8
SCRATCH = 128
"""Words of a row beyond its evidence: its leading entries before they are sorted."""


def take(logits: Any, rows: list[int], temperatures: list[float]) -> Any:
    """The evidence of rows; see `device.Take`."""
    torch: Any = import_module("torch")
    device = logits.device
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    taken = torch.empty((len(rows), WIDTH + SCRATCH), dtype=torch.int32, device=device)
    evidence_of_row[(len(rows),)](
        logits.view(torch.int16),
        logits.stride(0),
        torch.tensor(rows, dtype=torch.int32).to(device, non_blocking=True),
        torch.tensor(temperatures, dtype=torch.float32).to(device, non_blocking=True),
        taken,
        logits.shape[1],
        HALF=logits.dtype is torch.float16,
        OUT=WIDTH + SCRATCH,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return taken[:, :WIDTH]


@triton.jit
def key_of(bits):
    """The order of values as integers of 16 bits; both zeros are one. `bits` are 0 to 65535."""
    bits = tl.where(bits == 0x8000, 0, bits)
    return tl.where(bits >= 0x8000, 0xFFFF - bits, bits + 0x8000)


@triton.jit
def value_of(bits, HALF: tl.constexpr):
    """The value of 16 bits as float32."""
    if HALF:
        return bits.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return (bits << 16).to(tl.float32, bitcast=True)


@triton.jit
def settled(row, at, V, minus_infinity, lowest):
    """The bits at some places of a row, minus infinity replaced by the lowest of the row."""
    bits = tl.load(row + at, mask=at < V, other=0).to(tl.int32) & 0xFFFF
    return tl.where(bits == minus_infinity, lowest, bits)


@triton.jit
def bin_of_rank(counts, bins, rank):
    """The bin that holds the entry of a rank, counted from the top, and how many are above it."""
    above = tl.sum(counts, 0) - tl.cumsum(counts, 0)
    here = (above < rank) & (above + counts >= rank)
    return tl.sum(tl.where(here, bins, 0), 0), tl.sum(tl.where(here, above, 0), 0)


@triton.jit
def evidence_of_row(
    logits, stride, rows, temperatures, taken, V, HALF: tl.constexpr, OUT: tl.constexpr, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    row = logits + tl.load(rows + program).to(tl.int64) * stride
    out = taken + program.to(tl.int64) * OUT
    temperature = tl.load(temperatures + program)
    infinity = 0x7C00 if HALF else 0x7F80
    minus_infinity = infinity + 0x8000
    lane = tl.arange(0, BLOCK)

    # The extremes, and whether the row can be mined at all. spec: sampler §5.1
    highest = 0
    lowest = 0xFFFF
    spoilt = 0
    for start in range(0, V, BLOCK):
        at = start + lane
        bits = tl.load(row + at, mask=at < V, other=minus_infinity).to(tl.int32) & 0xFFFF
        finite = (bits & 0x7FFF) < infinity
        key = key_of(bits)
        highest = tl.maximum(highest, tl.max(tl.where(finite, key, 0), 0))
        lowest = tl.minimum(lowest, tl.min(tl.where(finite, key, 0xFFFF), 0))
        spoilt = tl.maximum(spoilt, tl.max(((~finite) & (bits != minus_infinity)).to(tl.int32), 0))
    spoilt = tl.where(highest == 0, 1, spoilt)
    lowest_bits = tl.where(lowest >= 0x8000, lowest - 0x8000, 0xFFFF - lowest)
    highest_bits = tl.where(highest >= 0x8000, highest - 0x8000, 0xFFFF - highest)

    # Which bins of the upper ten bits hold the ranks. What is outside the row is in bin 0, below
    # everything that has a value.
    coarse = tl.zeros([1024], dtype=tl.int32)
    for start in range(0, V, BLOCK):
        at = start + lane
        key = key_of(settled(row, at, V, minus_infinity, lowest_bits))
        coarse += tl.histogram(tl.where(at < V, key >> 6, 0), 1024)
    bins = tl.arange(0, 1024)
    bin_50, above_50 = bin_of_rank(coarse, bins, 50)
    bin_500, above_500 = bin_of_rank(coarse, bins, 500)
    bin_2000, above_2000 = bin_of_rank(coarse, bins, 2000)

    # Which keys within them, and ln Σ exp over all after temperature.
    top = value_of(highest_bits, HALF) / temperature
    exponentials = tl.zeros([BLOCK], dtype=tl.float32)
    fine_50 = tl.zeros([128], dtype=tl.int32)
    fine_500 = tl.zeros([128], dtype=tl.int32)
    fine_2000 = tl.zeros([128], dtype=tl.int32)
    for start in range(0, V, BLOCK):
        at = start + lane
        bits = settled(row, at, V, minus_infinity, lowest_bits)
        scaled = value_of(bits, HALF) / temperature
        exponentials += tl.where(at < V, tl.exp(scaled - top), 0.0)
        key = tl.where(at < V, key_of(bits), 0)
        # What is in another bin goes above all 64 places, where nobody looks.
        fine_50 += tl.histogram(tl.where(key >> 6 == bin_50, key & 63, 64), 128)
        fine_500 += tl.histogram(tl.where(key >> 6 == bin_500, key & 63, 64), 128)
        fine_2000 += tl.histogram(tl.where(key >> 6 == bin_2000, key & 63, 64), 128)
    places = tl.arange(0, 128)
    low_50, more_50 = bin_of_rank(tl.where(places < 64, fine_50, 0), places, 50 - above_50)
    low_500, more_500 = bin_of_rank(tl.where(places < 64, fine_500, 0), places, 500 - above_500)
    low_2000, more_2000 = bin_of_rank(tl.where(places < 64, fine_2000, 0), places, 2000 - above_2000)
    key_50, above_50 = bin_50 * 64 + low_50, above_50 + more_50
    key_500, above_500 = bin_500 * 64 + low_500, above_500 + more_500
    key_2000, above_2000 = bin_2000 * 64 + low_2000, above_2000 + more_2000

    # The sums by rank, and the leading entries: all above the value of rank 50, and of those that
    # have it the first, by id.
    sum_50 = tl.zeros([BLOCK], dtype=tl.float64)
    sum_500 = tl.zeros([BLOCK], dtype=tl.float64)
    sum_2000 = tl.zeros([BLOCK], dtype=tl.float64)
    sum_all = tl.zeros([BLOCK], dtype=tl.float64)
    leading = out + OUT - 128
    found = 0
    ties = 0
    for start in range(0, V, BLOCK):
        at = start + lane
        bits = settled(row, at, V, minus_infinity, lowest_bits)
        key = tl.where(at < V, key_of(bits), 0)
        value = tl.where(at < V, value_of(bits, HALF), 0.0).to(tl.float64)
        sum_50 += tl.where(key > key_50, value, 0.0)
        sum_500 += tl.where(key > key_500, value, 0.0)
        sum_2000 += tl.where(key > key_2000, value, 0.0)
        sum_all += value
        tied = (key == key_50).to(tl.int32)
        earlier = ties + tl.cumsum(tied, 0) - tied
        chosen = (key > key_50) | ((tied > 0) & (earlier < 50 - above_50))
        number = chosen.to(tl.int32)
        slot = found + tl.cumsum(number, 0) - number
        # A row that cannot be mined may have any number of them.
        chosen = chosen & (slot < 50)
        tl.store(leading + slot, bits, mask=chosen)
        tl.store(leading + 64 + slot, at, mask=chosen)
        found += tl.sum(number, 0)
        ties += tl.sum(tied, 0)

    # Every thread reads what others wrote.
    tl.debug_barrier()
    slots = tl.arange(0, 64)
    bits = tl.load(leading + slots, mask=slots < 50, other=0)
    ids = tl.load(leading + 64 + slots, mask=slots < 50, other=0x7FFFFFFF)
    keys = tl.where(slots < 50, key_of(bits), -1)
    leads = (keys[:, None] > keys[None, :]) | (
        (keys[:, None] == keys[None, :]) & (ids[:, None] < ids[None, :])
    )
    rank = tl.sum(leads.to(tl.int32), 0)
    logit = value_of(bits, HALF).to(tl.int32, bitcast=True)
    logit = tl.where((spoilt > 0) & (rank == 0), 0x7FC00000, logit)
    tl.store(out + rank, logit, mask=slots < 50)
    tl.store(out + 70 + rank, ids, mask=slots < 50)

    probe = tl.arange(0, 32)
    places = probe * tl.maximum(V // 20, 1)
    bits = settled(row, tl.where(probe < 20, places, 0), V, minus_infinity, lowest_bits)
    tl.store(out + 50 + probe, value_of(bits, HALF).to(tl.int32, bitcast=True), mask=probe < 20)
    tl.store(out + 120 + probe, places, mask=probe < 20)

    stat = out + 140
    of_50 = value_from(key_50, HALF)
    of_500 = value_from(key_500, HALF)
    of_2000 = value_from(key_2000, HALF)
    first_50 = tl.sum(sum_50, 0) + (50 - above_50) * of_50
    first_500 = tl.sum(sum_500, 0) + (500 - above_500) * of_500
    first_2000 = tl.sum(sum_2000, 0) + (2000 - above_2000) * of_2000
    everything = tl.sum(sum_all, 0)
    total = tl.sum(exponentials.to(tl.float64), 0)
    store_float(stat, top + tl.log(total.to(tl.float32)))
    store_float(stat + 1, first_50 / 50)
    store_float(stat + 2, tl.where(V >= 500, (first_500 - first_50) / 450, 0.0))
    store_float(stat + 3, tl.where(V >= 2000, (first_2000 - first_500) / 1500, 0.0))
    store_float(stat + 4, tl.where(V > 2000, (everything - first_2000) / tl.maximum(V - 2000, 1), 0.0))
    store_float(stat + 5, everything / V)


@triton.jit
def value_from(key, HALF: tl.constexpr):
    """The value of a key as float64."""
    bits = tl.where(key >= 0x8000, key - 0x8000, 0xFFFF - key)
    return value_of(bits, HALF).to(tl.float64)


@triton.jit
def store_float(place, value):
    """Writes a value as the bits of a float32."""
    tl.store(place, value.to(tl.float32).to(tl.int32, bitcast=True))
