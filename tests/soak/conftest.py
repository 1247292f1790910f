"""Long runs, for nights and releases: `FASTARCHIVE_SOAK=1 pytest tests/soak`. The suite has a short one of each."""

import os

collect_ignore_glob = [] if os.environ.get("FASTARCHIVE_SOAK") else ["test_*.py"]
