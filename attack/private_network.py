"""Collect in a network of its own; print how often a private address was reached."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from attack.material import encoded, photo
from attack.private_addresses import PRIVATE_ADDRESSES, PUBLIC_ADDRESS
from attack.raw_server import RawServer, whole

ROWS = 100


def main() -> None:
    folder, seed = Path(sys.argv[1]), sys.argv[2]
    rng = random.Random(seed)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (PUBLIC_ADDRESS, *PRIVATE_ADDRESSES):
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    good = encoded(photo(1), "JPEG")
    redirects = 0

    with RawServer(lambda _: [whole(encoded(photo(2), "JPEG"))], "::", dual=True) as trap:
        targets = [spelling(rng, trap.port) for _ in range(ROWS)]

        def public(path: str) -> Iterable[bytes]:
            nonlocal redirects
            if path == "/good.jpg":
                return [whole(good)]
            redirects += 1
            target = targets[int(path.strip("/"))]
            return [whole(b"", "302 Found", f"Location: {target}")]

        with RawServer(public, PUBLIC_ADDRESS) as server:
            base = f"http://{PUBLIC_ADDRESS}:{server.port}"
            rows = ["id,url,label", f"good,{base}/good.jpg,x"]
            for number, target in enumerate(targets):
                url = target if rng.random() < 0.5 else f"{base}/{number}"
                rows.append(f'{number},"{url}",x')
            source = folder / "list.csv"
            source.write_text("\n".join(rows))
            code = collect(source, folder / "out")
            facts = {
                "code": code,
                "photos": len(list((folder / "out").rglob("*.jpg"))),
                "reached": trap.requests,
                "redirects": redirects,
                "rows": ROWS,
            }
            # The trap is real: who allows private addresses reaches it.
            collect(source, folder / "allowed", "--allow-private")
            facts["allowed"] = trap.requests - facts["reached"]
    print(json.dumps(facts))


def collect(source: Path, out: Path, *options: str) -> int:
    """Run `veduta collect`, and wait little for addresses where nobody answers."""
    from veduta.cli.main import run

    with contextlib.redirect_stdout(io.StringIO()) as output:
        waits = ("--retries", "0", "--connect-timeout", "2")
        code = run(["collect", str(source), "--out", str(out), *waits, *options])
    print(output.getvalue())
    return code


def spelling(rng: random.Random, port: int) -> str:
    """Return a URL of a private address, in one of the ways to write it."""
    address = ipaddress.IPv4Address(rng.choice(("127.0.0.1", "127.9.9.9", *PRIVATE_ADDRESSES)))
    number = int(address)
    first, second, third, fourth = address.packed
    host = rng.choice(
        (
            str(address),
            f"{address}.",
            str(number),
            hex(number),
            f"0{number:o}",
            f"0x{first:x}.0x{second:x}.{third}.{fourth}",
            f"0{first:o}.{second}.{third}.{fourth}",
            f"{first}.{number & 0xFFFFFF}",
            f"{first}.{second}.{number & 0xFFFF}",
            f"[::ffff:{address}]",
            f"[::{address}]",
            f"[64:ff9b::{first:02x}{second:02x}:{third:02x}{fourth:02x}]",
            f"[2002:{first:02x}{second:02x}:{third:02x}{fourth:02x}::1]",
            "[::1]",
            "[::]",
            "[0:0:0:0:0:0:0:1]",
            "[fe80::1%25lo]",
            "0",
            "0.0.0.0",
            "localhost",
            "LOCALHOST.",
            "\u2460\u2461\u2466.0.0.1".replace("\u2460\u2461\u2466", "\uff11\uff12\uff17"),
            f"{first}\u3002{second}\u3002{third}\u3002{fourth}",
        )
    )
    user = rng.choice(("", "", "9.9.9.9@", "9.9.9.9:80@"))
    return f"{rng.choice(('http', 'HTTP'))}://{user}{host}:{port}/trap.jpg"


if __name__ == "__main__":
    main()
