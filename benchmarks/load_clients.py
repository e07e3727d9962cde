"""Clients that search with photos, each one request after the other; print what they saw as JSON.

python -m benchmarks.load_clients PORT FOLDER CLIENTS SECONDS RERANK
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path

BOUNDARY = "photo-of-a-benchmark"


def main() -> None:
    port, folder, clients, seconds, rerank = sys.argv[1:]
    bodies = [form(file, rerank) for file in sorted(Path(folder).iterdir())]
    until = time.perf_counter() + float(seconds)
    took: list[float] = []
    failed: list[str] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
        turn = number
        while (started := time.perf_counter()) < until:
            status, answer = post(connection, bodies[turn % len(bodies)])
            took.append(time.perf_counter() - started)
            if status != http.client.OK:
                failed.append(f"{status} {answer[:200]!r}")
            turn += int(clients)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(int(clients))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"took": took, "failed": failed, "elapsed": time.perf_counter() - started}))


def form(file: Path, rerank: str) -> bytes:
    """Return the body of a search with a photo."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    options = json.dumps({"rerank": rerank, "limit": 10})
    photo = f'{head}"photo"; filename="{file.name}"\r\n\r\n'.encode() + file.read_bytes()
    return photo + f'\r\n{head}"options"\r\n\r\n{options}\r\n--{BOUNDARY}--\r\n'.encode()


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    connection.request("POST", "/api/v1/search", body, {"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, answer.read()


if __name__ == "__main__":
    main()
