"""What the card reaches: copies within its memory and from the host, and matrix products."""

from __future__ import annotations

import json

import torch

from gpu_parts.results import attempt, parser, report, seconds

RATES = "rates.json"  # for the parts that compare with what the card reaches


def main(arguments: list[str] | None = None) -> None:
    given = parser(__doc__).parse_args(arguments)
    device, rates = given.device, {}
    size = 2**20 if given.toy else 2**31
    n = 256 if given.toy else 8192

    def copies() -> None:
        source = torch.empty(size, dtype=torch.uint8, device=device).random_()
        target = torch.empty_like(source)
        target.copy_(source)
        rates["bandwidth"] = 2 * size / seconds(lambda: target.copy_(source), device, 10) / 1e9
        report("memory bandwidth, bytes read and written", rates["bandwidth"], "GB/s")

    def transfers() -> None:
        host = torch.empty(size // 4, dtype=torch.uint8, pin_memory=device == "cuda").random_()
        target = torch.empty_like(host, device=device)
        target.copy_(host)
        rates["transfer"] = host.nbytes / seconds(lambda: target.copy_(host), device, 5) / 1e9
        report("copies from pinned host memory", rates["transfer"], "GB/s")

    def products() -> None:
        a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
        for _ in range(3):
            a @ b
        rates["tflops"] = 2 * n**3 / seconds(lambda: a @ b, device, 10) / 1e12
        report(f"a product of two {n} x {n} matrices in bfloat16", rates["tflops"], "TFLOP/s")

    attempt("memory bandwidth", copies)
    attempt("copies from the host", transfers)
    attempt("products", products)
    given.work.mkdir(parents=True, exist_ok=True)
    (given.work / RATES).write_text(json.dumps(rates))


if __name__ == "__main__":
    main()
