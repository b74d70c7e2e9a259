"""Makes `written`, the logs to read, and the benchmarks importable for the tests of this folder."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Last: the package under test is the installed one, not the one beside the benchmarks.
sys.path.append(str(HERE.parents[1]))
