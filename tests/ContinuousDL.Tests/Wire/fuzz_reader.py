"""Gives the reader damaged snapshots and messages: python3 fuzz_reader.py FOLDER-OF-THE-READER COUNT SNAPSHOT MESSAGE [MESSAGE ...].

Nothing but ValueError may be raised, and what is refused may change nothing.
"""

import copy
import random
import sys

sys.path.insert(0, sys.argv[1])
from continuousdl import Model
from xxh3 import xxh3_64

CHECKSUM = 4


def read(path):
    with open(path, "rb") as file:
        return file.read()


def mutate(data, others):
    data = bytearray(data)
    for _ in range(random.randint(1, 3)):
        kind, at = random.randrange(6), random.randrange(len(data) + 1)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data[at:at] = random.randbytes(random.randint(1, 9))
        elif kind == 2:
            other = random.choice(others)
            data[at:] = other[random.randrange(len(other)):]
        elif kind == 3 and at < len(data):
            data[at:at + random.randint(1, 4)] = b"\xff\xff\xff\xff"[:random.randint(0, 4)]
        elif at < len(data):
            data[at] ^= 1 << random.randrange(8)
    return bytes(data)


def refused(action, *arguments):
    try:
        action(*arguments)
        return False
    except ValueError:
        return True


random.seed(1)
count, snapshot, messages = int(sys.argv[2]), read(sys.argv[3]), [read(path) for path in sys.argv[4:]]
refusals = sum(refused(Model, mutate(snapshot, [snapshot, *messages])) for _ in range(count // 10))
print(f"{refusals} of {count // 10} snapshots refused")

model, refusals = Model(snapshot), 0
for i in range(count):
    message = mutate(random.choice(messages), messages)
    if i % 8 and len(message) > CHECKSUM:
        # Whoever attacks computes the checksum too.
        message = message[:-CHECKSUM] + (xxh3_64(message[:-CHECKSUM]) & 0xFFFFFFFF).to_bytes(CHECKSUM, "little")
    target = copy.deepcopy(model)
    if refused(target.apply, message):
        refusals += 1
        assert (target.sequence, target.compute_digest()) == (model.sequence, model.digest), "a refused message changed the model"
print(f"{refusals} of {count} messages refused")
