"""MkDocs reads docs/ alone. What lies beside it and is linked from there (measurements, ready files, guides of
folders) gets pages too, under the paths that it has in the repository, so that one link serves there and on the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BESIDE = (
    "CHANGELOG.md CONTRIBUTING.md CITATION.cff LICENSE benchmarks/*.md benchmarks/*.py benchmarks/figures/*.png "
    "campaigns/*.yaml deployments/* k8s/**/*.md k8s/**/*.sh k8s/**/*.yaml "
    "kiago_ray/data/SOURCES.md tune_configs/*.yaml"
)
OUT_OF_DOCS = re.compile(r"\]\(\.\./(?!\.\.)")
INTO_DOCS = re.compile(r"\]\(((?:\.\./)*)docs/")


def on_files(files: Files, config: Any) -> Files:
    """Add the files of BESIDE."""
    for pattern in BESIDE.split():
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ and into it, as the site has them: there docs/ is the root itself."""
    if "/" not in page.file.src_uri and (ROOT / "docs" / page.file.src_uri).exists():
        return OUT_OF_DOCS.sub("](", markdown)
    return INTO_DOCS.sub(r"](\1", markdown)
