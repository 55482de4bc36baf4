"""Runs one fuzz target under atheris (libFuzzer), from its own `__main__`."""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
MAX_INPUT = 20000  # bytes; more than one whole frame
SLOWEST = 10  # seconds for one input: anything near is a finding
MEMORY = 1024  # megabytes


def corpus(name: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted((FOLDER / "corpus" / name).iterdir())


def main(name: str) -> None:
    """Fuzz `tests.fuzz.fuzz_<name>` for `--seconds N`; ends the process, with 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=f"Fuzz target {name}.")
    parser.add_argument("--seconds", type=int, default=30, help="how long to run (default: 30)")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is missing: make fuzz, or: pip install atheris==3.0.0")
    # The target that called us has imported everything already: once more, with coverage.
    for module in list(sys.modules):
        if module.split(".")[0] in ("lockgate", "tests") and module != __name__:
            del sys.modules[module]
    with atheris.instrument_imports(include=["lockgate"], enable_loader_override=False):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    findings = FOLDER / "findings"
    findings.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:  # new inputs go there, not into the kept corpus
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={options.seconds}",
                f"-max_len={MAX_INPUT}",
                f"-timeout={SLOWEST}",
                f"-rss_limit_mb={MEMORY}",
                f"-artifact_prefix={findings}/{name}-",
                "-print_final_stats=1",
                "-verbosity=0",
                scratch,
                str(FOLDER / "corpus" / name),
            ],
            target.one_input,
        )
        atheris.Fuzz()
