"""The hash functions of mcrouter once more, written from their descriptions and sharing nothing with src/hash.

Reads questions, one per line, and prints the answer to each:

    spooky32 SEED KEY | spooky64 SEED KEY
    crc32 COUNT KEY | ch3 COUNT KEY | const_shard COUNT KEY
    weighted_ch3 WEIGHTS KEY
    rendezvous TAGS KEY | weighted_rendezvous TAGS WEIGHTS KEY
    rank TAGS KEY | weighted_rank TAGS WEIGHTS KEY

KEY is in hexadecimal behind a dot; lists have commas.
"""

import math
import sys

WORD = (1 << 64) - 1
MURMUR_M = 0xC6A4A7935BD1E995
CH3_SEED = 4193360111
TAG_SEED = 4193360111
RENDEZVOUS_KEY_SEED = 2718281828
CITY_M = 0x9DDFEA08EB382D69
WEIGHTED_CH3_SEED = 0xFACE2014


def little(data):
    return int.from_bytes(data, "little")


def rotate(word, by):
    return (word << by | word >> 64 - by) & WORD


# SpookyHash V2 -------------------------------------------------------------------------------------------------------

SPOOKY = 0xDEADBEEFDEADBEEF


def spooky64(key, seed):
    return spooky_short(key, seed) if len(key) < 192 else spooky_long(key, seed)


def short_mix(a, b, c, d):
    # Three times four steps: one word turned, the next one added, and the word two further on takes it by exclusive or.
    for turns in (50, 52, 30, 41), (54, 48, 38, 37), (62, 34, 5, 36):
        c = (rotate(c, turns[0]) + d) & WORD
        a ^= c
        d = (rotate(d, turns[1]) + a) & WORD
        b ^= d
        a = (rotate(a, turns[2]) + b) & WORD
        c ^= a
        b = (rotate(b, turns[3]) + c) & WORD
        d ^= b
    return a, b, c, d


def spooky_short(key, seed):
    a = b = seed
    c = d = SPOOKY
    at = 0
    while len(key) - at >= 16:
        c = c + little(key[at : at + 8]) & WORD
        d = d + little(key[at + 8 : at + 16]) & WORD
        a, b, c, d = short_mix(a, b, c, d)
        at += 16
        if len(key) - at >= 16:
            a = a + little(key[at : at + 8]) & WORD
            b = b + little(key[at + 8 : at + 16]) & WORD
            at += 16
        else:
            break
    # Whoever stopped in the middle of 32 bytes has nothing but the tail left; so has everybody else.
    tail = key[at:]
    d = d + (len(key) << 56) & WORD
    if tail:
        c = c + little(tail[:8]) & WORD
        d = d + little(tail[8:]) & WORD
    else:
        c = c + SPOOKY & WORD
        d = d + SPOOKY & WORD
    for turn_c, turn_d, turn_a, turn_b in (15, 52, 26, 51), (28, 9, 47, 54), (32, 25, 63, None):
        d ^= c
        c = rotate(c, turn_c)
        d = d + c & WORD
        a ^= d
        d = rotate(d, turn_d)
        a = a + d & WORD
        b ^= a
        a = rotate(a, turn_a)
        b = b + a & WORD
        if turn_b is not None:
            c ^= b
            b = rotate(b, turn_b)
            c = c + b & WORD
    return a


def spooky_long(key, seed):
    h = [seed, seed, SPOOKY] * 4
    whole = len(key) // 96 * 96
    for at in range(0, whole, 96):
        for i, turn in enumerate((11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46)):
            h[i] = h[i] + little(key[at + 8 * i : at + 8 * i + 8]) & WORD
            h[(i + 2) % 12] ^= h[i - 2]
            h[i - 1] ^= h[i]
            h[i] = rotate(h[i], turn)
            h[i - 1] = h[i - 1] + h[(i + 1) % 12] & WORD
    rest = key[whole:]
    block = rest + bytes(95 - len(rest)) + bytes([len(rest)])
    for i in range(12):
        h[i] = h[i] + little(block[8 * i : 8 * i + 8]) & WORD
    for _ in range(3):
        for i, turn in enumerate((44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54)):
            h[i - 1] = h[i - 1] + h[(i + 1) % 12] & WORD
            h[(i + 2) % 12] ^= h[i - 1]
            h[(i + 1) % 12] = rotate(h[(i + 1) % 12], turn)
    return h[0]


# MurmurHash64A, CRC-32 -----------------------------------------------------------------------------------------------


def murmur64a(key, seed):
    h = seed ^ len(key) * MURMUR_M & WORD
    whole = len(key) & ~7
    for at in range(0, whole, 8):
        k = little(key[at : at + 8]) * MURMUR_M & WORD
        k ^= k >> 47
        h = (h ^ k * MURMUR_M & WORD) * MURMUR_M & WORD
    if key[whole:]:
        h = (h ^ little(key[whole:])) * MURMUR_M & WORD
    h = (h ^ h >> 47) * MURMUR_M & WORD
    return h ^ h >> 47


def crc32(key):
    crc = 0xFFFFFFFF
    for byte in key:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# Placements ----------------------------------------------------------------------------------------------------------


def ch3(key, count):
    if count <= 1:
        return 0
    words = [murmur64a(key, CH3_SEED)]

    def bit(at):
        while len(words) <= at // 64:
            words.append(murmur64a(words[-1].to_bytes(8, "little"), CH3_SEED))
        return words[at // 64] >> at % 64 & 1

    depth = at = (count - 1).bit_length()
    for _ in range(32):
        while not bit(at):
            depth -= 1
            if depth == 0:
                return 0
            at = depth
        at += 23
        number = 1
        for _ in range(depth - 1):
            number = 2 * number + bit(at)
            at += 23
        if number < count:
            return number
    return 0


def weighted_ch3(key, weights):
    asked = key
    for number in range(32):
        index = ch3(asked, len(weights))
        if spooky64(asked, WEIGHTED_CH3_SEED) & 0xFFFFFFFF < int(weights[index] * 0xFFFFFFFF):
            return index
        asked = key + str(number)[::-1].encode()
    return index


def const_shard(key, count):
    parts = key.split(b":")
    if len(parts) >= 3 and parts[1] and all(0x30 <= byte <= 0x39 for byte in parts[1]):
        if int(parts[1]) < count:
            return int(parts[1])
    return ch3(key, count)


def city_128_to_64(upper, lower):
    a = (lower ^ upper) * CITY_M & WORD
    a ^= a >> 47
    b = (upper ^ a) * CITY_M & WORD
    b ^= b >> 47
    return b * CITY_M & WORD


def scores(key, tags, weights):
    key = murmur64a(key, RENDEZVOUS_KEY_SEED)
    for index, tag in enumerate(tags):
        mixed = city_128_to_64(murmur64a(tag.encode(), TAG_SEED), key)
        if weights is None:
            yield float(mixed)
            continue
        uniform = (mixed & (1 << 53) - 1) / (1 << 53)
        yield 0.0 if uniform == 0 else weights[index] * (1 / -math.log(uniform))


def best(key, tags, weights):
    of_all = list(scores(key, tags, weights))
    if weights is None:
        return max(range(len(tags)), key=lambda index: (of_all[index], index))
    return max(range(len(tags)), key=lambda index: (of_all[index], -index))


def rank(key, tags, weights):
    of_all = list(scores(key, tags, weights))
    order = sorted(range(len(tags)), key=lambda index: (of_all[index], index), reverse=True)
    return ",".join(map(str, order))


def answer(question):
    name, *arguments, key = question.split()
    key = bytes.fromhex(key.removeprefix("."))
    if name.startswith("spooky"):
        return spooky64(key, int(arguments[0])) & (1 << int(name[6:])) - 1
    if name == "crc32":
        return (crc32(key) & 0x7FFFFFFF) % int(arguments[0])
    if name in ("ch3", "const_shard"):
        return {"ch3": ch3, "const_shard": const_shard}[name](key, int(arguments[0]))
    if name == "weighted_ch3":
        return weighted_ch3(key, list(map(float, arguments[0].split(","))))
    tags = arguments[0].split(",")
    weights = list(map(float, arguments[1].split(","))) if name.startswith("weighted") else None
    return (rank if name.endswith("rank") else best)(key, tags, weights)


for line in sys.stdin:
    print(answer(line))
