"""Compiles the C functions when the package is built, or installed for development; without a compiler, none."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeFunctions(BuildHookInterface[Any]):
    """Makes ``src/fastarchive/native/kernels-*.so`` and puts them into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs a wheel, also one for an editable install."""
        compiling = runpy.run_path(str(Path(self.root, "src/fastarchive/native/build.py")))
        try:
            made = compiling["build"]()
        except compiling["BuildError"] as error:
            self.app.display_warning(f"without C functions, hence slower: {error}")
            return
        build_data["artifacts"] += [str(path.relative_to(self.root)) for path in made]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
