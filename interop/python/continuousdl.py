"""Follows a ContinuousDL trainer: reads its snapshots and updates (docs/wire-format.md) into a dict of numpy arrays.

    model = Model(open("snapshot.safetensors", "rb").read())
    model.apply(message)                      # True, or False when the model has that state already
    torch_module.load_state_dict({name: torch.from_numpy(array) for name, array in model.arrays.items()})

Needs Python 3.9 and numpy. bfloat16 arrays hold their bits as uint16 (torch: .view(torch.bfloat16)). Whatever is refused
raises a ValueError and changes nothing.
"""

import contextlib
import hashlib
import hmac
import json
import uuid

import numpy as np

from xxh3 import xxh3_64

_M64 = (1 << 64) - 1
_DTYPES = {"BOOL": ("Bool", "u1"), "U8": ("Byte", "u1"), "I8": ("Int8", "i1"), "I16": ("Int16", "<i2"), "F16": ("Float16", "<f2"),
           "BF16": ("BFloat16", "<u2"), "I32": ("Int32", "<i4"), "F32": ("Float32", "<f4"), "I64": ("Int64", "<i8"),
           "F64": ("Float64", "<f8"), "C64": ("ComplexFloat32", "<c8")}
_FORMATS = {"Float32": 32, "Float64": 64, "BFloat16": 16, "Float16": 16}
_FIXED = {2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6}


def _require(condition, problem):
    if not condition:
        raise ValueError(problem)


@contextlib.contextmanager
def _refusing(problem):
    """What goes wrong with parts that are missing or of other types than they should be is a ValueError, too."""
    try:
        yield
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(problem) from error


def read_snapshot(data):
    """A safetensors file: the arrays by name, the dtypes by name, and the metadata."""
    length = int.from_bytes(data[:8], "little")
    _require(8 <= len(data) and length <= min(len(data) - 8, 100_000_000), "the header is longer than the file")
    with _refusing("the snapshot's header is malformed"):
        header = json.loads(data[8:8 + length])
        metadata, body, arrays, dtypes = header.pop("__metadata__", {}), data[8 + length:], {}, {}
        for name, tensor in header.items():
            start, end = tensor["data_offsets"]
            dtypes[name], code = _DTYPES[tensor["dtype"]]
            _require(0 <= start <= end <= len(body), f"{name} is not in the file")
            arrays[name] = np.frombuffer(body[start:end], code).reshape(tensor["shape"]).copy()
        return arrays, dtypes, metadata


def _mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _digest(coordinates, bits):
    """The sum of the hashes of coordinates and the bits of their values."""
    offset = _mix((coordinates.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return int(_mix(offset + bits.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)).sum(dtype=np.uint64))


class _Bits:
    """Bits from the most significant of each byte to the least."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, count):
        end = self.at + count
        _require(end <= 8 * len(self.data), "the message ends early")
        word = int.from_bytes(self.data[self.at // 8:(end + 7) // 8], "big") >> (-end % 8)
        self.at = end
        return word & ((1 << count) - 1)

    def align(self):
        _require(self.read(-self.at % 8) == 0, "unused bits are set")


class _Code:
    """A canonical prefix code of 40 symbols, and the sizes that separate the classes of changes."""

    def __init__(self, bits, is_float):
        if is_float:
            q = bits.read(5)
            base = bits.read(31 - q) << q
            steps = [i if i <= 24 else 23 + (1 << (i - 24)) for i in range(37)]
            self.sizes = np.array([min(0x7F800000, base + (step << q)) for step in steps], np.uint32).view(np.float32)
        lengths = [bits.read(4) for _ in range(40)] if bits.read(1) else [_FIXED.get(s, 12) for s in range(40)]
        _require(all(length <= 12 for length in lengths) and sum(2.0 ** -length for length in lengths if length) <= 1, "the code is not valid")
        self.symbols, code, previous = {}, 0, 0
        for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
            code <<= length - previous
            self.symbols[length, code] = symbol
            code, previous = code + 1, length

    def read(self, bits):
        code = 0
        for length in range(1, 13):
            code = code << 1 | bits.read(1)
            if (length, code) in self.symbols:
                return self.symbols[length, code]
        raise ValueError("there is no such code")


def _float(bits, kind):
    """The value of some bits: float64 for Float64, float32 otherwise."""
    if kind == "Float64":
        return np.array([bits], np.uint64).view(np.float64)[0]
    if kind == "Float16":
        return np.float32(np.array([bits], np.uint16).view(np.float16)[0])
    return np.array([bits << 16 if kind == "BFloat16" else bits], np.uint32).view(np.float32)[0]


def _round(value, kind):
    """The bits of a value that is not NaN in a format."""
    if kind == "Float64":
        return int(np.array([value], np.float64).view(np.uint64)[0])
    if kind == "Float16":
        return int(np.array([value], np.float32).astype(np.float16).view(np.uint16)[0])
    bits = int(np.array([value], np.float32).view(np.uint32)[0])
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 if kind == "BFloat16" else bits


def _read_floats(bits, code, olds, element, kind):
    """New values in their format; olds are the bits of the old ones in the tensors' dtype."""
    width = _FORMATS[kind]
    half = 1 << (width - 1)

    def order(b):
        return b + half if b < half else 2 * half - 1 - b

    def bounds(symbol, negative, old):
        if symbol == 39:
            return 0, 1 << width
        a = _float(old ^ negative << (_FORMATS[element] - 1), element)
        _require(np.isfinite(a), "a change of a value that is not finite")

        def bound(s):
            if s == 39:
                return order(_round(np.inf, kind))
            first = order(_round(a, kind))
            return first + s if s < 2 else max(first + 1, order(_round(a + code.sizes[s - 2].astype(a.dtype), kind)))

        low, high = bound(symbol), bound(symbol + 1)
        _require(high > low, "the class is empty")
        return low, high - low

    result = []
    for start in range(0, len(olds), 1024):
        block = olds[start:start + 1024]
        classes = [(code.read(bits), bits.read(1)) for _ in block]
        with np.errstate(over="ignore"):
            places = [bounds(symbol, negative, int(old)) for (symbol, negative), old in zip(classes, block)]
        numbers = [bits.read(count.bit_length() - 1) for _, count in places]
        for (symbol, negative), (low, count), x in zip(classes, places, numbers):
            short = (1 << count.bit_length()) - count
            new = low + (x if x < short else 2 * x + bits.read(1) - short)
            result.append(new if symbol == 39 else (new - half if new >= half else 2 * half - 1 - new) ^ (negative << (width - 1)))
    return result


def _read_integer(bits, code, old, width):
    count = code.read(bits)
    z = bits.read(width) if count == 39 else 0 if count == 0 else 1 << (count - 1) | bits.read(count - 1)
    return (old + (z >> 1 if z % 2 == 0 else -(z >> 1) - 1)) % (1 << width)


def _read_coordinates(bits, k, n):
    listed = min(k, n - k)
    total, count, at, result = 8 * ((n - listed) // (listed + 1)), 8, -1, np.empty(listed, np.int64)
    for i in range(listed):
        r = 0
        while 25 * count << r < 12 * total + 6 * count:
            r += 1
        q = 0
        while q < 24 and not bits.read(1):
            q += 1
        gap = q << r | bits.read(r) if q < 24 else bits.read(31)
        at += gap + 1
        _require(at < n, "a coordinate is beyond the model")
        result[i], total, count = at, total + gap, count + 1
        if count == 64:
            total, count = total // 2, 32
    bits.align()
    return np.setdiff1d(np.arange(n), result, assume_unique=True) if 2 * k > n else result


class Model:
    """A model's state, which snapshots begin and updates move on."""

    def __init__(self, snapshot, hmac_key=None):
        self.arrays, self.dtypes, metadata = read_snapshot(snapshot)
        with _refusing("the snapshot's metadata are malformed"):
            self.tensors = [(name, kind) for name, kind in json.loads(metadata["continuousdl.tensors"])]
            self.fingerprint = int(metadata["continuousdl.fingerprint"], 16)
            self.run = uuid.UUID(metadata["continuousdl.run"])
            self.sequence = int(metadata["continuousdl.sequence"])
            digest, signature = int(metadata["continuousdl.digest"], 16), str(metadata.get("continuousdl.signature", ""))
            _require(sorted(name for name, _ in self.tensors) == sorted(self.arrays), "other tensors are listed than there are")
        self.offsets = np.cumsum([0] + [self.arrays[name].size for name, _ in self.tensors])
        self.runs = []  # tensors of one kind and dtype that follow one another
        for t, (name, kind) in enumerate(self.tensors):
            if self.arrays[name].size:
                if not self.runs or (kind, self.dtypes[name]) != run_of:
                    self.runs.append([])
                self.runs[-1].append(t)
                run_of = kind, self.dtypes[name]
        self.hmac_key = hmac_key
        if hmac_key is not None:
            text = "\n".join(f"{kind} {name} {self.dtypes[name]}[{', '.join(map(str, self.arrays[name].shape))}]" for name, kind in self.tensors)
            content = hashlib.sha256(text.encode() + b"\0" + b"".join(self.arrays[name].tobytes() for name, _ in self.tensors)).digest()
            signed = b"ContinuousDL snapshot 1\n" + self.run.bytes + self.sequence.to_bytes(8, "little") + content
            right = hmac.new(hmac_key, signed, hashlib.sha256).hexdigest()
            _require(hmac.compare_digest(right.encode(), signature.encode()), "the snapshot's signature is not right")
        self.digest = self.compute_digest()
        _require(self.digest == digest, "the snapshot is damaged")

    def compute_digest(self):
        """The digest of the state, from every value."""
        return sum(_digest(np.arange(self.offsets[t], self.offsets[t + 1]), self._bits(t)) for t in range(len(self.tensors))) & _M64

    def apply(self, message):
        """Applies an update. True when it was, False when the model has that state or a later one already."""
        _require(message[:3] == b"CU\x02" and len(message) >= 27, "this is no message of version 2")
        flags, signature = message[3], {0: 0, 1: 32, 2: 64}.get(message[3] >> 5, -1)
        body = message[:len(message) - signature]
        _require(signature >= 0 and flags >> 3 & 3 < 3 and len(body) >= 27, "this is no message of version 2")
        _require(xxh3_64(body[:-4]) & 0xFFFFFFFF == int.from_bytes(body[-4:], "little"), "the message is damaged")
        if self.hmac_key is not None:
            right = hmac.new(self.hmac_key, body, hashlib.sha256).digest()
            _require(signature == 32 and hmac.compare_digest(right, message[-32:]), "the signature is not right")

        whole, relative, full, precision = flags & 1, flags & 2, flags & 4, flags >> 3 & 3
        run, at = (body[8:24], 24) if full else (body[8:12], 12)
        numbers = []
        for _ in range(3):
            value = shift = 0
            while shift == 0 or body[at - 1] & 128:
                _require(at < len(body) - 12 and shift < 63, "a number is too long")
                value |= (body[at] & 127) << shift
                at, shift = at + 1, shift + 7
            numbers.append(value)
        sequence, steps, k = numbers
        _require(at <= len(body) - 12, "the message ends early")
        digest, payload, n = int.from_bytes(body[at:at + 8], "little"), body[at + 8:-4], int(self.offsets[-1])
        _require(int.from_bytes(body[4:8], "little") == self.fingerprint & 0xFFFFFFFF, "the message is for another model")
        mine = self.run.bytes if full else (xxh3_64(self.run.bytes) & 0xFFFFFFFF).to_bytes(4, "little")
        _require(run == mine, "the message is of another training run")
        if sequence <= self.sequence:
            return False
        _require(sequence - steps <= self.sequence and not (relative and sequence - steps != self.sequence), "updates are missing")
        _require(k <= n and 8 * len(payload) >= k + (0 if whole else min(k, n - k)), "the message is too short for its coordinates")

        bits = _Bits(payload)
        coordinates = np.arange(n) if whole else _read_coordinates(bits, k, n)
        codes, changes, after = {}, [], self.digest
        for tensors in self.runs:
            own = [coordinates[(coordinates >= self.offsets[t]) & (coordinates < self.offsets[t + 1])] for t in tensors]
            if not any(map(len, own)):
                continue
            (name, kind), at = self.tensors[tensors[0]], np.concatenate(own)
            element, width = self.dtypes[name], 8 * self.arrays[name].itemsize
            form = ["Float32", "BFloat16", "Float16"][precision] if (kind, element) == ("parameter", "Float32") else element
            old = np.concatenate([self._bits(t)[c - self.offsets[t]] for t, c in zip(tensors, own)])
            if (kind, element) not in codes:
                codes[kind, element] = _Code(bits, element in _FORMATS)
            code, before = codes[kind, element], old if relative else np.zeros_like(old)
            if element in _FORMATS:
                values = _read_floats(bits, code, before, element, form)
                values = values if form == element else [_round(_float(value, form), element) for value in values]
            else:
                values = [_read_integer(bits, code, int(value), width) for value in before]
            new = np.array(values, old.dtype)
            after += _digest(at, new) - _digest(at, old)
            changes += zip(tensors, (c - self.offsets[t] for t, c in zip(tensors, own)), np.split(new, np.cumsum([len(c) for c in own])[:-1]))
        bits.align()
        _require(bits.at == 8 * len(payload), "something follows the values")
        _require(after & _M64 == digest, "the state after the update would not be the trainer's")
        for t, positions, new in changes:
            self._bits(t)[positions] = new
        self.sequence, self.digest = sequence, digest
        return True

    def _bits(self, t):
        """A tensor's values as unsigned integers: a flat view."""
        array = self.arrays[self.tensors[t][0]]
        return array.reshape(-1).view(f"<u{array.itemsize}")


if __name__ == "__main__":
    import os
    import sys

    if len(sys.argv) < 2:
        sys.exit("python3 continuousdl.py SNAPSHOT [MESSAGE ...]: applies the messages, and says which state each leads to.\n"
                 "CONTINUOUSDL_HMAC_KEY in the environment is the key, in hexadecimal digits, that all must be signed with.")
    key = os.environ.get("CONTINUOUSDL_HMAC_KEY")
    with open(sys.argv[1], "rb") as file:
        model = Model(file.read(), key and bytes.fromhex(key))
    print(model.sequence, f"{model.digest:016x}")
    for path in sys.argv[2:]:
        with open(path, "rb") as file:
            applied = model.apply(file.read())
        print(model.sequence, f"{model.compute_digest():016x}", "applied" if applied else "had it")
