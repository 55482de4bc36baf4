"""Fuzz targets for every Python parser of outside bytes.

A target is a module `fuzz_<name>` with `one_input(data)`, which returns or fails an assertion; it needs
no fuzzer, so tests replay `corpus/<name>/` through it and throw random bytes at it. `make fuzz` installs
atheris and runs `python -m tests.fuzz.run SECONDS`. A finding lands in `findings/`: fix it, and move the
file to the corpus, where it stays a test.
"""
