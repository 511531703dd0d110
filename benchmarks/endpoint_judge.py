"""A judge behind a server: the time of 200 calls, against the rounds that they take at least.

    python benchmarks/endpoint_judge.py [--calls 200] [--at-once 16] [--milliseconds 50]

A server in a process of its own answers each call after so many milliseconds. With 16 at once, 200 calls take at least
13 rounds of 50 ms; what is beyond is the client's.
"""

import argparse
import logging
import multiprocessing
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

import numpy as np

from nashward.llm import Endpoint, JudgeSettings
from nashward.llm.oracles import EndpointJudge

ANSWER = (
    b'{"model": "a judge", "choices": [{"message": {"content": "[[A]]"}, "finish_reason": "stop"}], '
    b'"usage": {"prompt_tokens": 100, "completion_tokens": 5}}'
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seconds = 0.0

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.seconds)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def serve(place: Connection, seconds: float) -> None:
    """Serve until the process ends; the port goes into the pipe."""
    Handler.seconds = seconds
    with Server(("127.0.0.1", 0), Handler) as server:
        place.send(server.server_address[1])
        server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> float:
    """Print the times, and return their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--milliseconds", type=float, default=50.0)
    given = parser.parse_args(arguments)
    logging.getLogger("nashward").setLevel(logging.ERROR)
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(there, given.milliseconds / 1000), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}/v1"
        judge = EndpointJudge("a judge", JudgeSettings(base_url=url), Endpoint(concurrency=given.at_once))
        judge.cache_key()  # the first call, which finds out who answers
        texts = [f"response {k}" for k in range(2 * given.calls)]
        began = time.perf_counter()
        (logits,) = judge.raw_logits(["prompt"], [texts], [[(2 * k, 2 * k + 1) for k in range(given.calls)]])
        taken = time.perf_counter() - began
    finally:
        server.terminate()
        server.join()
    assert np.isfinite(logits).all()
    rounds = -(-given.calls // given.at_once)
    least = rounds * given.milliseconds / 1000
    print(f"{given.calls} calls of {given.milliseconds:g} ms, {given.at_once} at once")
    print(f"least  {least:.3f} s, {rounds} rounds")
    print(f"taken  {taken:.3f} s, {taken / least:.2f} times that")
    return taken / least


if __name__ == "__main__":
    main()
