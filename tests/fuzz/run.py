"""`python -m tests.fuzz.run SECONDS [TARGET …]`: every target for that long, one after the other."""

import argparse
import subprocess
import sys

from tests.fuzz.harness import FOLDER

TARGETS = sorted(file.stem.removeprefix("fuzz_") for file in FOLDER.glob("fuzz_*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the Python fuzz targets.")
    parser.add_argument("seconds", type=int, help="for each target")
    parser.add_argument("target", nargs="*", metavar="TARGET", help=f"default: all ({', '.join(TARGETS)})")
    options = parser.parse_args()
    if unknown := set(options.target) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    failed = []
    for name in options.target or TARGETS:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.fuzz.fuzz_{name}", "--seconds", str(options.seconds)]
        if subprocess.run(command, cwd=FOLDER.parents[1], check=False).returncode:
            failed.append(name)
    print(f"findings in: {', '.join(failed)}" if failed else "no findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
