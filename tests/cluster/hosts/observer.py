"""Prints the addresses of a cluster's living nodes whenever they change, as lines of JSON."""

from __future__ import annotations

import json
import sys
import time

import ray


def main(address: str) -> None:
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    told: list[str] = []
    while True:
        alive = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
        if alive != told:
            print(json.dumps(alive), flush=True)
            told = alive
        time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1])
