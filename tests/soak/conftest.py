"""Long runs, for nights and releases: `FASTARCHIVE_SOAK=1 pytest tests/soak`. The suite runs a part of each every time."""

import os

collect_ignore_glob = [] if os.environ.get("FASTARCHIVE_SOAK") else ["test_*.py"]
