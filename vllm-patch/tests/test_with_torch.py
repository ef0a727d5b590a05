"""The plugin's unit tests once more, on the torch of this environment instead of a stand-in."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATHS = (HERE / "unit", HERE.parents[1] / "ffi-python" / "tests")
NAMES = ("test_step", "test_parking", "test_reference", "test_doctor")


def load_tests(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """The tests of the other folder, whose modules find each other by name."""
    sys.path[:0] = [str(path) for path in PATHS]
    return loader.loadTestsFromNames(NAMES)


if __name__ == "__main__":
    unittest.main()
