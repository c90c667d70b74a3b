"""Time from `pybrix up --simulate 3` to the first answered request, with everything installed.

Prints each phase and the ratio to the floor: starting one simulated engine alone, asked directly.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PYBRIX = [sys.executable, "-m", "pybrix"]
GOAL_S = 10.0


def ask(url: str, model: str) -> bool:
    """Return whether one small question is answered."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def time_installation(directory: Path) -> float:
    started_s = time.perf_counter()
    subprocess.run(
        [*PYBRIX, "up", "--simulate", "3", "--detach", "--port", "0", "--data-dir", str(directory)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        url = json.loads((directory / "up.json").read_text())["gateway_url"]
        while not ask(url, "simulated"):
            time.sleep(0.01)
        return time.perf_counter() - started_s
    finally:
        subprocess.run([*PYBRIX, "down", "--data-dir", str(directory)], check=True, stdout=subprocess.DEVNULL)


def time_engine(port: int) -> float:
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [*PYBRIX, "simulator", "--model", "floor", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not ask(f"http://127.0.0.1:{port}", "floor"):
            time.sleep(0.01)
        return time.perf_counter() - started_s
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--port", type=int, default=18471, help="port of the floor's engine")
    options = parser.parse_args()
    floors, fulls = [], []
    for _ in range(options.runs):
        floors.append(time_engine(options.port))
        with tempfile.TemporaryDirectory() as directory:
            fulls.append(time_installation(Path(directory)))
    floor, full = statistics.median(floors), statistics.median(fulls)
    print(f"one engine alone to its first answer     {floor:6.2f} s (median of {options.runs})")
    print(
        f"pybrix up --simulate 3 to its first one  {full:6.2f} s   {full / floor:.1f}x the floor, goal {GOAL_S:.0f} s"
    )


if __name__ == "__main__":
    main()
