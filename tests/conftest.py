"""What all tests share: a real Chromium, GPUs for those that ask, and the figures that they measured, told at the end."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
GPU = Path("/dev/nvidia0")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)


def pytest_configure(config: pytest.Config) -> None:
    """GPUs are there for `-m gpu`; all others compute on the CPU, where results are the same to the bit."""
    asked = "gpu" in config.option.markexpr.replace("not gpu", "")
    if GPU.exists() and not asked:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["XPO_RAY_NO_REHEARSAL"] = "1"  # hundreds of tiny runs; tests of rehearsals take it away
    if os.environ.get("ATEN_CPU_CAPABILITY") in (
        "default",
        "avx2",
    ):  # else bfloat16 is packed for AMX, which is not compiled in
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """vLLM compiles kernels of its own, which torch's compiler can do with AVX2 at least."""
    if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(
                    pytest.mark.skip(reason="vLLM's kernels are not compiled for ATEN_CPU_CAPABILITY=default")
                )


@pytest.fixture(autouse=True, scope="session")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Verdicts about models are kept apart from the user's."""
    folder = tmp_path_factory.mktemp("verdicts")
    before = os.environ.get("XPO_RAY_VERDICTS")
    os.environ["XPO_RAY_VERDICTS"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XPO_RAY_VERDICTS"]
    else:
        os.environ["XPO_RAY_VERDICTS"] = before


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """Ended with its module: while Playwright runs, no other event loop can run in this thread."""
    if CHROMIUM is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What passed tests have measured: their lines that begin with FIGURES, under the test's name."""
    found = {
        report.nodeid: [line for line in report.capstdout.splitlines() if line.startswith("FIGURES")]
        for report in terminalreporter.getreports("passed")
    }
    if any(found.values()):
        terminalreporter.section("figures")
    for name, lines in found.items():
        for line in lines:
            terminalreporter.line(f"{name.rpartition('::')[2]}: {line.removeprefix('FIGURES ')}")
