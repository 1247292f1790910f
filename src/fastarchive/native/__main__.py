"""``python -m fastarchive.native``: compile the C functions in place."""

import sys

from fastarchive.native.build import BuildError, build

try:
    for path in build():
        print(path)
except BuildError as error:
    sys.exit(str(error))
