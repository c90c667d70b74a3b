from __future__ import annotations

import shutil
import threading
from pathlib import Path

from pybrix.cluster.nodeagent.runfiles import find_files, has_live_programs


def test_files_of_all_containers_are_found(tmp_path: Path) -> None:
    for name in ("pod-1/main/0.log", "pod-1/main/0.pid", "pod-2/side/3.log", "pod-2/0.log", "stray.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, ".log") == [tmp_path / "pod-1/main/0.log", tmp_path / "pod-2/side/3.log"]
    assert find_files(tmp_path / "nowhere", ".log") == []


def test_pods_that_vanish_meanwhile_are_no_error(tmp_path: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not stop.is_set():
            pod = tmp_path / f"pod-{number % 3}"
            (pod / ".mounts" / "etc").mkdir(parents=True, exist_ok=True)
            shutil.rmtree(pod)
            number += 1

    (tmp_path / "stays" / "main").mkdir(parents=True)
    (tmp_path / "stays" / "main" / "0.log").touch()
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(1500):
            assert find_files(tmp_path, ".log") == [tmp_path / "stays" / "main" / "0.log"]
            assert not has_live_programs(tmp_path)
    finally:
        stop.set()
        thread.join()
