"""`tensorpow-vllm`, also `python -m tensorpow_vllm`."""

import argparse
import sys

from tensorpow_vllm import __version__, doctor


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 0 when all is well and 1 when it is not."""
    parser = argparse.ArgumentParser(prog="tensorpow-vllm", description="Proof of work in a stock vLLM.")
    parser.add_argument("--version", action="version", version=f"tensorpow-vllm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    examine = commands.add_parser("doctor", help="would vLLM mine here, and does a proof made now verify?")
    examine.add_argument("--model", help="the model that vLLM will be started with")
    examine.add_argument("--revision", help="its commit")
    examine.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    report = doctor.examine(options.model, options.revision)
    print(report.json() if options.json else report.text())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
