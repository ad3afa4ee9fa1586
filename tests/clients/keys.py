"""The keys that tests/integration/placement.rs looks for, each its own value."""


def keys(count):
    for n in range(count):
        yield [
            f"key{n}",
            f"user:{n}:profile",
            f"{{user{n % 977}}}:{n}",
            f"a-rather-long-key/with/a/path/{n * 7919:064}/{n}",
            f"{n}",
            f"pre{{}}{n}",
            f"${n % 31}${n}",
            f"clé:ключ:{n}",
        ][n % 8]
