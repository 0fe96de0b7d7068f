#!/usr/bin/env python3
"""Runs the library's CUDA kernels from their PTX, checks each against a reference in torch, and times them.

For machines that have a GPU and PyTorch but no .NET. Needs nothing else: the PTX is loaded through the CUDA driver's own
library with ctypes, into the context and the stream that torch works in.

    dotnet run --project tools/PtxDump -- --out ptx      (on any machine with .NET)
    python tools/ptx-check/ptx_check.py ptx              (on the machine with the GPU)

Exits with 0 when every kernel gave exactly the reference's result, with 1 when one did not, with 2 when it could not run.
What was not checked is said in the end.
"""

import argparse
import ctypes
import os
import statistics
import struct
import sys

TILE = 4096  # coordinates in a tile, as SelectionKernels.TileSize
BINS = 1 << 11
DIGITS = ((20, 11), (10, 10), (0, 10))
MASK = 0x7FFFFFFF
CANDIDATES, THRESHOLD, RANK, SELECTED, WHOLE, NONFINITE = range(6)
SINGLE, SINGLE_AS_BFLOAT16, SINGLE_AS_HALF, BFLOAT16, HALF, DOUBLE = range(6)  # formats of numbers, as NumberFormat
DTYPES = ("Float32", "BFloat16", "Float16")
KERNELS = (
    "Begin Histogram FindDigit CountTiles ScanTiles Compact Gather Subtract "
    "SumDigest DigestChange WriteModel ReadModel CopyModel AddSelected LookAhead"
).split() + [kernel + dtype for kernel in ("Accumulate", "TakeBack") for dtype in DTYPES]


class View(ctypes.Structure):
    """How a kernel takes a part of memory: where it starts, and the number of its elements."""

    _fields_ = [("address", ctypes.c_uint64), ("length", ctypes.c_int64)]


class Driver:
    """The few functions of the CUDA driver that are needed. The current context must be the one to work in."""

    def __init__(self, library=None):
        self.cuda = ctypes.CDLL(library or ("nvcuda.dll" if os.name == "nt" else "libcuda.so.1"))

    def call(self, name, *arguments, log=None):
        code = getattr(self.cuda, name)(*arguments)
        if code == 0:
            return
        text = ctypes.c_char_p()
        self.cuda.cuGetErrorName(code, ctypes.byref(text))
        detail = f" {log.value.decode(errors='replace')}" if log is not None else ""
        raise RuntimeError(f"{name} failed with {(text.value or b'an unknown error').decode()} ({code}).{detail}")

    def load(self, path):
        with open(path, "rb") as file:
            image = file.read() + b"\0"
        log = ctypes.create_string_buffer(8192)
        options = (ctypes.c_int * 2)(5, 6)
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), 8191)
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadDataEx", ctypes.byref(module), image, 2, options, values, log=log)
        name = "Kernel_" + os.path.splitext(os.path.basename(path))[0]
        self.call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(self, function, groups, group_size, stream, arguments):
        addresses = (ctypes.c_void_p * len(arguments))(*[ctypes.addressof(a) for a in arguments])
        null = ctypes.c_void_p()
        self.call(
            "cuLaunchKernel", function, groups, 1, 1, group_size, 1, 1, 0, ctypes.c_void_p(stream), addresses, null
        )


def target_folder(folder, capability):
    """The PTX for the best target that the device can run."""
    have = sorted(int(name[3:]) for name in os.listdir(folder) if name.startswith("sm_") and name[3:].isdigit())
    usable = [target for target in have if target <= capability[0] * 10 + capability[1]]
    if not usable:
        raise RuntimeError(f"{folder} has PTX for {have}; the device, of {capability}, can run none of it.")
    return os.path.join(folder, f"sm_{usable[-1]}")


class Kernels:
    def __init__(self, torch, folder, group_size):
        self.torch, self.group_size = torch, group_size
        torch.zeros(1, device="cuda")  # makes the context
        self.driver = Driver()
        properties = torch.cuda.get_device_properties(0)
        self.grid = 8 * properties.multi_processor_count
        self.folder = target_folder(folder, torch.cuda.get_device_capability(0))
        self.functions = {name: self.driver.load(os.path.join(self.folder, name + ".ptx")) for name in KERNELS}

    def run(self, name, groups, *arguments):
        stream = self.torch.cuda.current_stream().cuda_stream
        self.driver.launch(self.functions[name], groups, self.group_size, stream, [self.argument(a) for a in arguments])

    def argument(self, value):
        if isinstance(value, int):
            return ctypes.c_int32(value)
        if isinstance(value, float):
            return ctypes.c_float(value)
        if value is None:
            return View(0, 0)
        if isinstance(value, View):
            return value
        assert value.is_contiguous()
        return View(value.data_ptr(), value.numel())


class Selector:
    """The steps of DeviceSelector for one tensor, with a floor that is given."""

    def __init__(self, kernels, n, k):
        torch = kernels.torch
        self.kernels, self.n, self.k = kernels, n, k
        self.tiles = -(-n // TILE)

        def integers(count):
            return torch.zeros(count, dtype=torch.int32, device="cuda")

        capacity = min(n, 4 * k + 4096)
        self.state, self.histogram = integers(6), integers(BINS)
        self.indices, self.bits = integers(capacity), integers(capacity)
        self.starts, self.counts, self.above, self.equal = (integers(self.tiles) for _ in range(4))
        self.selected, self.values = integers(k), torch.zeros(k, device="cuda")
        first = list(range(0, n, TILE)) + [n]
        self.first = torch.tensor(first, dtype=torch.int32, device="cuda")

    def step(self, residual, gradient, floor, release=1):
        """Adds a gradient of any of the dtypes, and selects."""
        name = "Accumulate" + ("Float32" if gradient is None else dtype_name(self.kernels.torch, gradient.dtype))
        self.kernels.run("Begin", 1, self.state, self.histogram, self.k)
        self.collect(name, (gradient,), residual, floor)
        self.select(residual, floor, release)

    def take_back(self, trained, deployed, residual, floor, lookahead):
        """Takes the optimizer's update back out of weights, and selects; nothing is released."""
        self.kernels.run("Begin", 1, self.state, self.histogram, self.k)
        name = "TakeBack" + dtype_name(self.kernels.torch, trained.dtype)
        self.collect(name, (trained, deployed), residual, floor, lookahead)
        self.select(residual, floor, 0)

    def collect(self, name, tensors, residual, floor, *more):
        aligned = all(tensor is None or tensor.data_ptr() % 16 == 0 for tensor in (*tensors, residual))
        self.kernels.run(
            name, min(self.kernels.grid, self.tiles), *tensors, residual,
            self.state, self.indices, self.bits, self.starts, self.counts, 0, floor, int(aligned), *more,
        )

    def select(self, residual, floor, release):
        run, grid = self.kernels.run, min(self.kernels.grid, self.tiles)
        for shift, bits in DIGITS:
            run("Histogram", grid, residual, self.state, self.bits, self.histogram, self.k, floor, shift, bits)
            run("FindDigit", 1, self.state, self.histogram, shift, bits)
        run(
            "CountTiles", grid, residual, self.state, self.bits, self.first, self.starts, self.counts,
            self.above, self.equal, self.k, floor,
        )
        run("ScanTiles", 1, self.state, self.above, self.equal, self.bits.numel(), self.k, floor)
        run(
            "Compact", grid, residual, self.state, self.indices, self.bits, self.first, self.starts, self.counts,
            self.above, self.equal, self.selected, self.values, self.k, floor, release,
        )

    def result(self):
        count = int(self.state[SELECTED])
        return self.selected[:count].long(), self.values[:count]


def dtype_name(torch, dtype):
    return {torch.float32: "Float32", torch.bfloat16: "BFloat16", torch.float16: "Float16"}[dtype]


def reference(torch, vector, k):
    """The k largest magnitudes, ties by lower index, zeros never: by keys that are all different."""
    magnitude = (vector.view(torch.int32) & MASK).long()
    key = (magnitude << 31) | (MASK - torch.arange(vector.numel(), device=vector.device))
    top = torch.topk(key, k).values
    top = top[(top >> 31) > 0]
    indices = (MASK - (top & MASK)).sort().values
    return indices, vector[indices]


def same_bits(torch, a, b):
    integers = torch.int32 if a.element_size() == 4 else torch.int16
    return a.numel() == b.numel() and torch.equal(a.contiguous().view(integers), b.contiguous().view(integers))


def vectors(torch, n):
    """Kinds of values, without sums that are NaN: those have other bits on a GPU than on a CPU."""
    random = torch.Generator(device="cuda").manual_seed(1)
    normal = torch.randn(n, device="cuda", generator=random)
    yield "heavy tails", normal * torch.randn(n, device="cuda", generator=random).exp()
    yield "many ties", (torch.randint(-3, 4, (n,), device="cuda", generator=random) * 0.5).float()
    yield "all equal", torch.full((n,), 0.25, device="cuda")
    yield "all zero", torch.zeros(n, device="cuda")
    yield "nearly all zero", torch.where(normal > 3, normal, torch.zeros_like(normal))
    yield "denormals", torch.randint(0, 1 << 12, (n,), device="cuda", generator=random, dtype=torch.int32).view(torch.float32)
    yield "infinities", torch.where(normal > 2, torch.full_like(normal, float("inf")), normal)


def check_selection(torch, kernels, failures):
    for n in (1, 31, 33, 4095, 4097, 100_003, 5_000_000):
        for kind, gradient in vectors(torch, n):
            for k in sorted({1, max(1, n // 1000), max(1, n // 10), n}):
                for shift in (0, 1):
                    storage = torch.zeros(n + shift, device="cuda")
                    residual = storage[shift:]
                    padded = torch.zeros(n + shift, device="cuda")
                    padded[shift:] = gradient
                    selector = Selector(kernels, n, k)
                    floor = MASK
                    for step in range(2):
                        expected_sum = residual + gradient
                        indices, values = reference(torch, expected_sum, k)
                        selector.step(residual, padded[shift:], floor)
                        got, got_values = selector.result()
                        rest = expected_sum.clone()
                        rest[indices] = 0
                        good = torch.equal(got, indices) and same_bits(torch, got_values, values)
                        good = good and same_bits(torch, residual.clone(), rest)
                        if not good:
                            failures.append(f"selection: n={n}, k={k}, {kind}, offset {shift}, step {step}")
                        # A floor somewhat below the threshold, so that the candidates are used in the second step.
                        floor = max(0, int(selector.state[THRESHOLD]) - (1 << 20))


def shifted(torch, tensor, shift):
    """The same values, so many elements off 16 bytes."""
    storage = torch.zeros(tensor.numel() + shift, device="cuda", dtype=tensor.dtype)
    storage[shift:] = tensor
    return storage[shift:]


def check_gradients(torch, kernels, failures):
    """Every number of 16 bits, and vectors of every kind, added to what is owed."""
    for dtype in (torch.bfloat16, torch.float16):
        every = torch.arange(-(1 << 15), 1 << 15, device="cuda", dtype=torch.int32).to(torch.int16).view(dtype)
        kinds = [("every number", every[every.float().isfinite()])]
        kinds += [(kind, vector.to(dtype)) for kind, vector in vectors(torch, 100_003)]
        for kind, gradient in kinds:
            for shift in (0, 1, 8):
                residual = shifted(torch, torch.linspace(-1, 1, gradient.numel(), device="cuda"), shift)
                expected = residual + gradient.float()
                selector = Selector(kernels, gradient.numel(), 77)
                selector.step(residual, shifted(torch, gradient, shift), MASK, release=0)
                indices, _ = reference(torch, expected, 77)
                if not same_bits(torch, residual, expected) or not torch.equal(selector.result()[0], indices):
                    failures.append(f"gradients: {dtype}, {kind}, offset {shift}")


def ahead(deployed, residual, lookahead):
    """Where the gradient is taken. Product and sum are rounded each by itself."""
    return deployed if lookahead == 0 else (deployed + residual * lookahead).to(deployed.dtype)


def check_weights(torch, kernels, failures):
    """Updates taken back out of weights, with and without a look-ahead, and the look-ahead at what was sent."""
    n, k = 100_003, 501
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for kind, change in vectors(torch, n):
            if kind == "infinities":
                continue  # infinity less itself has no bits of its own
            for lookahead in (0.0, 0.5, 1.0):
                for shift in (0, 3):
                    deployed = shifted(torch, torch.randn(n, device="cuda").to(dtype), shift)
                    residual = shifted(torch, torch.randn(n, device="cuda") * 1e-2, shift)
                    moved = (ahead(deployed, residual, lookahead) + 0.1 * change).to(dtype)
                    expected = residual + (moved - ahead(deployed, residual, lookahead)).float()
                    trained = shifted(torch, moved, shift)
                    selector = Selector(kernels, n, k)
                    selector.take_back(trained, deployed, residual, MASK, lookahead)
                    indices, values = reference(torch, expected, k)
                    good = same_bits(torch, residual, expected) and torch.equal(selector.result()[0], indices)
                    good = good and same_bits(torch, trained, ahead(deployed, expected, lookahead))

                    # What is sent changes w and e at a few places.
                    deployed[indices] = (deployed[indices] + values).to(dtype)
                    residual[indices] *= 0.25
                    (memory, table, _kept), (weights, weight_table, _kept_too) = (table_of(torch, tensor) for tensor in (trained, deployed))
                    kernels.run("LookAhead", kernels.grid, memory, table, weights, weight_table, residual, indices.int(), lookahead)
                    good = good and same_bits(torch, trained[indices], ahead(deployed, residual, lookahead)[indices])
                    if not good:
                        failures.append(f"weights: {dtype}, {kind}, look-ahead {lookahead}, offset {shift}")


def table_of(torch, tensor):
    """A tensor as a model of which it is all: its memory, its table of one TensorPlace, and what that is in, to be kept."""
    size, form = tensor.element_size(), {torch.bfloat16: BFLOAT16, torch.float16: HALF}.get(tensor.dtype, SINGLE)
    base = tensor.data_ptr() // 8 * 8
    row = struct.pack("<qiiii", (tensor.data_ptr() - base) // size, 0, 0, size, form)
    table = torch.tensor(list(row), dtype=torch.uint8, device="cuda")
    return View(base, tensor.data_ptr() - base + size * tensor.numel()), View(table.data_ptr(), 1), table


def check_races(torch, kernels, failures):
    gradient = dict(vectors(torch, 500_000))["many ties"]
    selector = Selector(kernels, gradient.numel(), 70_000)
    indices, _ = reference(torch, gradient, 70_000)
    for repetition in range(1000):
        residual = torch.zeros_like(gradient)
        selector.step(residual, gradient, 0x3F000000 - 1 if repetition % 2 else MASK)
        if not torch.equal(selector.result()[0], indices):
            failures.append(f"races: repetition {repetition} of 1000 gave another selection")
            return


def signed(x):
    """An unsigned 64-bit constant as torch's int64 takes it."""
    return x - (1 << 64) if x >= 1 << 63 else x


def mix(z):
    """The finalizer of SplitMix64 on int64, whose right shift has to be made a logical one."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * signed(factor)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def digest_sum(coordinates, bits):
    """What each coordinate adds to a model's digest, as StateDigest computes it."""
    return mix(mix((coordinates.long() + 1) * signed(0x9E3779B97F4A7C15)) + bits * signed(0xD6E8FEB86659FD93))


def digest_change(coordinates, old, new):
    """What a model's digest changes by."""
    return (digest_sum(coordinates, new) - digest_sum(coordinates, old)).sum()


def check_updates(torch, kernels, failures):
    n, k = 1_000_003, 40_000
    vector = torch.randn(n, device="cuda")
    places = torch.randperm(n, device="cuda")[:k].sort().values.int()
    factors = torch.rand(k, device="cuda")
    values = factors.clone()
    kernels.run("Gather", kernels.grid, vector, places, values)
    if not same_bits(torch, values, vector[places.long()] * factors):
        failures.append("Gather")
    expected = vector.clone()
    expected[places.long()] -= values
    kernels.run("Subtract", kernels.grid, vector, places, values)
    if not same_bits(torch, vector, expected):
        failures.append("Subtract")


class Model:
    """Tensors of any element size, some of them empty, whose coordinates count through them in order."""

    def __init__(self, torch, sizes_and_lengths, formats=None, extra=0):
        self.torch, self.sizes = torch, [size for size, _ in sizes_and_lengths]
        self.tensors = [torch.randint(0, 256, (size * n,), device="cuda", dtype=torch.uint8) for size, n in sizes_and_lengths]
        self.starts = [0]
        for _, n in sizes_and_lengths:
            self.starts.append(self.starts[-1] + n)
        self.rows = [t for t, (_, n) in enumerate(sizes_and_lengths) if n > 0]
        base = min(self.tensors[t].data_ptr() for t in self.rows) // 8 * 8
        end = max(self.tensors[t].data_ptr() + self.tensors[t].numel() for t in self.rows)
        self.memory = View(base, end - base)
        # TensorPlace: first element from the base, first coordinate, first coordinate in the model, size, format.
        rows = b"".join(
            struct.pack(
                "<qiiii",
                (self.tensors[t].data_ptr() - base) // self.sizes[t], self.starts[t], self.starts[t] + extra, self.sizes[t],
                formats[t] if formats else SINGLE,
            )
            for t in self.rows
        )
        self.table_memory = torch.tensor(list(rows), dtype=torch.uint8, device="cuda")
        self.table = View(self.table_memory.data_ptr(), len(self.rows))

    def elements(self, t):
        """The elements as int64, zero-extended."""
        bits = self.tensors[t].view(-1, self.sizes[t]).long()
        return sum((bits[:, byte] << (8 * byte) for byte in range(self.sizes[t])), self.torch.zeros(len(bits), dtype=self.torch.int64, device="cuda"))

    def all(self):
        return self.torch.cat([self.elements(t) for t in self.rows])


def sections(torch, model, coordinates, values):
    """The values of coordinates, in sections of their tensors' sizes that start at multiples of 8 bytes, and where each starts."""
    starts, parts, place, j = [], [], 0, 0
    for t in model.rows:
        own = values[(coordinates >= model.starts[t]) & (coordinates < model.starts[t + 1])]
        starts.append(place // model.sizes[t] - j)
        j += len(own)
        bits = torch.stack([(own >> (8 * byte)) & 255 for byte in range(model.sizes[t])], 1).to(torch.uint8).flatten()
        padded = torch.zeros(-(-len(bits) // 8) * 8, dtype=torch.uint8, device="cuda")
        padded[: len(bits)] = bits
        parts.append(padded)
        place += len(padded)
    return torch.tensor(starts, dtype=torch.int64, device="cuda"), torch.cat(parts)


def check_models(torch, kernels, failures):
    shape = ((4, 0), (4, 300_001), (2, 77_777), (8, 0), (8, 5_003), (1, 12_345), (4, 1), (8, 1), (2, 0))
    model, twin = Model(torch, shape), Model(torch, shape)
    n = model.starts[-1]
    digest = torch.full((1,), -5, dtype=torch.int64, device="cuda")
    kernels.run("SumDigest", kernels.grid, model.memory, model.table, digest, n)
    everything = torch.arange(n, device="cuda")
    if int(digest) != int(digest_sum(everything, model.all()).sum() - 5):
        failures.append("SumDigest")
    for k in (1, 31, 33, 40_000, n):
        places = torch.randperm(n, device="cuda")[:k].sort().values.int()
        old = model.all()[places.long()]
        size = torch.zeros(n, dtype=torch.int64, device="cuda")
        for t in model.rows:
            size[model.starts[t] : model.starts[t + 1]] = model.sizes[t]
        drawn = torch.randint(-(1 << 62), 1 << 62, (k,), device="cuda")
        own_size = size[places.long()]
        new = torch.where(own_size == 8, drawn, drawn & ((torch.ones_like(own_size) << (8 * own_size.clamp(max=4))) - 1))
        starts, values = sections(torch, model, places, new)
        digest.fill_(7)
        kernels.run("DigestChange", kernels.grid, model.memory, model.table, places, starts, values, digest)
        if int(digest) != int(digest_change(places, old, new) + 7):
            failures.append(f"DigestChange of {k}")
        got = torch.zeros_like(values)
        kernels.run("ReadModel", kernels.grid, model.memory, model.table, places, starts, got)
        if not torch.equal(got, sections(torch, model, places, old)[1]):
            failures.append(f"ReadModel of {k}")
        expected = model.all()
        expected[places.long()] = new
        kernels.run("WriteModel", kernels.grid, model.memory, model.table, places, starts, values)
        if not torch.equal(model.all(), expected):
            failures.append(f"WriteModel of {k}")
        expected = twin.all()
        expected[places.long()] = new
        kernels.run("CopyModel", kernels.grid, twin.memory, twin.table, model.memory, model.table, places)
        if not torch.equal(twin.all(), expected):
            failures.append(f"CopyModel of {k}")


def check_sums(torch, kernels, failures):
    n, k, extra = 200_000, 50_000, 77
    for form, dtype, to in (
        (SINGLE, torch.float32, None), (SINGLE_AS_BFLOAT16, torch.float32, torch.bfloat16), (SINGLE_AS_HALF, torch.float32, torch.float16),
        (BFLOAT16, torch.bfloat16, None), (HALF, torch.float16, None), (DOUBLE, torch.float64, None),
    ):
        size = torch.empty(0, dtype=dtype).element_size()
        model = Model(torch, ((size, n),), [form], extra)
        weights = model.tensors[0].view(dtype)
        weights.copy_(torch.randn(n, device="cuda"))
        residual = torch.randn(n, device="cuda") * torch.randn(n, device="cuda").mul(6).exp2()
        places = torch.randperm(n, device="cuda")[:k].sort().values.int()
        state = torch.zeros(6, dtype=torch.int32, device="cuda")
        state[SELECTED] = k
        width = 8 if size == 8 else 4
        before, after = (torch.zeros(width * k, dtype=torch.uint8, device="cuda") for _ in range(2))
        digest = torch.full((1,), 9, dtype=torch.int64, device="cuda")

        old, addend = weights[places.long()].clone(), residual[places.long()]
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        total = old.to(wide) + addend.to(wide)
        if to is not None:
            largest = torch.finfo(to).max
            rounded = total.to(to).to(wide)
            total = torch.where(rounded.isinf() & total.isfinite(), total.sign() * largest, rounded)
        new = total.to(dtype)
        applied = (new.to(wide) - old.to(wide)).float()
        expected, rest = weights.clone(), residual.clone()
        expected[places.long()] = new
        rest[places.long()] = addend - applied
        integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
        mask = (1 << (8 * size)) - 1 if size < 8 else -1
        old_bits, new_bits = old.view(integer).long() & mask, new.view(integer).long() & mask

        arguments = (model.memory, model.table, residual, state, places, before, after, digest, width)
        state[NONFINITE] = 1
        unchanged = weights.clone()
        kernels.run("AddSelected", kernels.grid, *arguments)
        good = torch.equal(weights.view(integer), unchanged.view(integer)) and int(digest) == 9
        state[NONFINITE] = 0
        kernels.run("AddSelected", kernels.grid, *arguments)
        result = torch.int64 if width == 8 else torch.int32
        result_mask = -1 if width == 8 else 0xFFFFFFFF
        good = good and torch.equal(weights.view(integer), expected.view(integer)) and same_bits(torch, residual, rest)
        good = good and torch.equal(before.view(result).long() & result_mask, old_bits)
        good = good and torch.equal(after.view(result).long() & result_mask, new_bits)
        if not good or int(digest) != int(digest_change(places + extra, old_bits, new_bits) + 9):
            failures.append(f"AddSelected, {dtype} rounded to {to or dtype}")


def median_ms(torch, action, warm_up=5, rounds=20):
    for _ in range(warm_up):
        action()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        action()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def time_all(torch, kernels, unmeasured):
    print("\n| n | density | copy, ms | topk recipe, ms | kernels, ms | kernels / copy | GB/s of 12 n bytes |")
    print("|---|---|---|---|---|---|---|")
    for n in (1_000_000, 25_557_032, 100_000_000, 350_000_000):
        for density in (1e-2, 1e-3, 1e-4, 1e-5):
            try:
                k = max(1, int(n * density))
                gradient = torch.randn(n, device="cuda")
                gradient *= torch.randn(n, device="cuda").exp()
                residual, target = torch.zeros_like(gradient), torch.empty_like(gradient)
                copy = median_ms(torch, lambda: target.copy_(gradient))

                def recipe():
                    accumulated = residual + gradient
                    top = torch.topk(accumulated.abs(), k, sorted=False).indices
                    rest = accumulated.clone()
                    rest[top] = 0
                    return accumulated - rest

                usual = median_ms(torch, recipe)
                selector = Selector(kernels, n, k)
                selector.step(residual, gradient, MASK)
                floor = max(0, int(selector.state[THRESHOLD]) - (1 << 18))

                # With a gradient of zeros and nothing released, the floor fits in every round.
                residual.copy_(gradient)
                gradient.zero_()
                own = median_ms(torch, lambda: selector.step(residual, gradient, floor, release=0))
                if int(selector.state[WHOLE]):
                    unmeasured.append(f"n={n}, density {density}: the floor missed, the time is that of looking at all")
                print(f"| {n} | {density} | {copy:.3f} | {usual:.3f} | {own:.3f} | {own / copy:.2f} | {12e-6 * n / own:.0f} |")
            except torch.cuda.OutOfMemoryError:
                unmeasured.append(f"times for n={n}, density {density}: out of memory")
                torch.cuda.empty_cache()


def time_weights(torch, kernels, unmeasured):
    """One pass of the kernel against torch's operations, which take the update back, add it and look ahead."""
    print("\n| n | weights | copy of n float32, ms | torch's operations, ms | TakeBack, ms | GB/s (20 n bytes; 16 bits: 14 n) |")
    print("|---|---|---|---|---|---|")
    for n in (1_000_000, 25_557_032, 100_000_000, 350_000_000):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            try:
                residual, deployed = torch.randn(n, device="cuda"), torch.randn(n, device="cuda").to(dtype)
                trained, target = ahead(deployed, residual, 0.5), torch.empty_like(residual)
                copy = median_ms(torch, lambda: target.copy_(residual))

                def operations():
                    residual.add_((trained - ahead(deployed, residual, 0.5)).float())
                    trained.copy_(ahead(deployed, residual, 0.5))

                usual = median_ms(torch, operations)
                selector = Selector(kernels, n, max(1, n // 1000))
                name = "TakeBack" + dtype_name(torch, dtype)

                def one_pass():
                    # 3.3 sigmas up there are about as many candidates as a step of this density has.
                    kernels.run("Begin", 1, selector.state, selector.histogram, selector.k)
                    selector.collect(name, (trained, deployed), residual, 0x40530000, 0.5)

                own = median_ms(torch, one_pass)
                size = 8 + 3 * deployed.element_size()
                print(f"| {n} | {dtype} | {copy:.3f} | {usual:.3f} | {own:.3f} | {size * 1e-6 * n / own:.0f} |")
            except torch.cuda.OutOfMemoryError:
                unmeasured.append(f"times of weights for n={n}, {dtype}: out of memory")
                torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", help="the folder that PtxDump wrote")
    parser.add_argument("--no-times", action="store_true", help="check only")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed, so nothing was checked.", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("torch sees no CUDA device, so nothing was checked.", file=sys.stderr)
        return 2

    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    failures = []
    unmeasured = ["sums that are NaN, whose bits differ from a CPU's", "other devices than the first"]
    for group_size in (256, 32, 1024):
        kernels = Kernels(torch, arguments.folder, group_size)
        print(f"{kernels.folder}, groups of {group_size}")
        check_selection(torch, kernels, failures)
        check_gradients(torch, kernels, failures)
        check_weights(torch, kernels, failures)
        check_updates(torch, kernels, failures)
        check_models(torch, kernels, failures)
        check_sums(torch, kernels, failures)
    kernels = Kernels(torch, arguments.folder, 256)
    check_races(torch, kernels, failures)
    skipped = [name for name in os.listdir(arguments.folder) if os.path.join(arguments.folder, name) != kernels.folder]
    unmeasured += [f"the PTX in {name}, of another target" for name in sorted(skipped)]
    if not arguments.no_times:
        time_all(torch, kernels, unmeasured)
        time_weights(torch, kernels, unmeasured)
    print("\nNot checked: " + "; ".join(unmeasured) + ".")
    for failure in failures[:50]:
        print("WRONG: " + failure)
    print(f"{len(failures)} failures" if failures else "Every kernel gave exactly the reference's result.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
