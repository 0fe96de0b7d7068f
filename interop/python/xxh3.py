"""XXH3-64 (seed 0), after the specification of xxHash: the checksum of ContinuousDL's messages. Needs Python 3.9 and numpy."""

import numpy as np

_M64 = (1 << 64) - 1
_P32_1, _P32_2, _P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_P64_1, _P64_2, _P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P64_4, _P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a26"
    "4c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d978"
    "7364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb"
    "4b407e")


def _u32(data, at):
    return int.from_bytes(data[at:at + 4], "little")


def _u64(data, at):
    return int.from_bytes(data[at:at + 8], "little")


def _fold(a, b):
    product = a * b
    return (product & _M64) ^ (product >> 64)


def _avalanche(h):
    h = ((h ^ (h >> 37)) * 0x165667919E3779F9) & _M64
    return h ^ (h >> 32)


def _xxh64_avalanche(h):
    h = ((h ^ (h >> 33)) * _P64_2) & _M64
    h = ((h ^ (h >> 29)) * _P64_3) & _M64
    return h ^ (h >> 32)


def _mix16(data, at, secret):
    return _fold(_u64(data, at) ^ _u64(_SECRET, secret), _u64(data, at + 8) ^ _u64(_SECRET, secret + 8))


def _swap(value, size):
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def xxh3_64(data):
    """The hash of some bytes, as a number."""
    n = len(data)
    if n == 0:
        return _xxh64_avalanche(_u64(_SECRET, 56) ^ _u64(_SECRET, 64))
    if n <= 3:
        combined = (data[0] << 16) | (data[n >> 1] << 24) | data[n - 1] | (n << 8)
        return _xxh64_avalanche(combined ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    if n <= 8:
        combined = _u32(data, n - 4) + (_u32(data, 0) << 32)
        h = combined ^ _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
        h ^= (((h << 49) | (h >> 15)) & _M64) ^ (((h << 24) | (h >> 40)) & _M64)
        h = (h * 0x9FB21C651E98DF25) & _M64
        h ^= (h >> 35) + n
        h = (h * 0x9FB21C651E98DF25) & _M64
        return h ^ (h >> 28)
    if n <= 16:
        low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
        high = _u64(data, n - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
        return _avalanche((n + _swap(low, 8) + high + _fold(low, high)) & _M64)
    if n <= 128:
        h = n * _P64_1
        for i in range((n - 1) // 32, -1, -1):
            h += _mix16(data, 16 * i, 32 * i) + _mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return _avalanche(h & _M64)
    if n <= 240:
        h = n * _P64_1 + sum(_mix16(data, 16 * i, 16 * i) for i in range(8))
        h = _avalanche(h & _M64)
        h += sum(_mix16(data, 16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16)) + _mix16(data, n - 16, 136 - 17)
        return _avalanche(h & _M64)
    return _long(data)


def _long(data):
    n = len(data)
    secret = np.frombuffer(_SECRET, np.uint8)
    keys = np.stack([secret[8 * i:8 * i + 64].view(np.uint64) for i in range(16)])
    acc = np.array([_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1], np.uint64)
    last = np.frombuffer(_SECRET[121:185], np.uint64)
    scramble = np.frombuffer(_SECRET[128:], np.uint64)
    stripes = (n - 1) // 64
    words = np.frombuffer(data[:stripes * 64], np.uint64).reshape(stripes, 8)
    swap, low = np.array([1, 0, 3, 2, 5, 4, 7, 6]), np.uint64(0xFFFFFFFF)

    def accumulate(stripe, key):
        mixed = stripe ^ key
        return stripe[..., swap] + (mixed & low) * (mixed >> np.uint64(32))

    for start in range(0, stripes, 16):
        block = words[start:start + 16]
        acc = acc + accumulate(block, keys[:len(block)]).sum(0, dtype=np.uint64)
        if len(block) == 16:
            acc = ((acc ^ (acc >> np.uint64(47))) ^ scramble) * np.uint64(_P32_1)
    acc = acc + accumulate(np.frombuffer(data[n - 64:], np.uint64), last)
    values = [int(v) for v in acc]
    h = n * _P64_1
    for i in range(4):
        h += _fold(values[2 * i] ^ _u64(_SECRET, 11 + 16 * i), values[2 * i + 1] ^ _u64(_SECRET, 19 + 16 * i))
    return _avalanche(h & _M64)
