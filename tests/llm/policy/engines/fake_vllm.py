"""A stand-in for a Python that has vLLM, and for the server that it starts: a program of its own, without torch.

It takes the words that vLLM takes, wants its key, and hands each call on to the server of the test, which draws. What
it does wrong is in the variable ``FAKE_VLLM``. It starts a child that ignores SIGTERM, as a server's engine may.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOME = Path(os.environ.get("FAKE_HOME", "."))
FAULT = os.environ.get("FAKE_VLLM", "")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/health":
            return self._send(503 if FAULT == "never healthy" else 200, b"")
        if self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self._send(401, b'{"error": "Unauthorized"}')
        if FAULT == "dies while drawing" and self.path == "/v1/completions":
            print("EngineDeadError: the card is gone", flush=True)
            os._exit(7)
        request = urllib.request.Request(os.environ["FAKE_DRAWS"] + self.path.removeprefix("/v1"), content or None)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return self._send(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return self._send(error.code, error.read())

    do_GET = do_POST

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main(words: list[str]) -> int:
    if words[0] == "-c":
        print("none" if FAULT == "no vllm" else "vllm")
        return 0
    names = ("VLLM_API_KEY", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "HF_HUB_OFFLINE", "RANK", "PYTHONPATH")
    engine = subprocess.Popen(
        [sys.executable, "-S", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    )
    start = {"words": words, "pids": [os.getpid(), engine.pid], "environment": {n: os.environ.get(n) for n in names}}
    with (HOME / "starts.jsonl").open("a") as file:
        file.write(json.dumps(start) + "\n")
    if FAULT == "dies at start":
        print("WARNING 01-01 [utils.py:3] limits, as `OSError: too many files`")
        print("ValueError: the length is beyond the model's\nand more\nRuntimeError: see above", flush=True)
        return 3
    if FAULT == "ignores SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if FAULT == "slow":
        time.sleep(600)
    with ThreadingHTTPServer(("127.0.0.1", int(words[words.index("--port") + 1])), Handler) as server:
        server.daemon_threads = True
        server.serve_forever(poll_interval=0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
