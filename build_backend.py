"""Setuptools' build backend, but with SOURCE_DATE_EPOCH sdists come out byte for byte too.

Setuptools heeds that variable in wheels only (https://github.com/pypa/setuptools/issues/2133).
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  # the hooks that stay as they are

# Wheels record the modes of what is written here. Build frontends run hooks in their own process.
os.umask(0o022)


def build_sdist(sdist_directory: str, config_settings: dict[str, str] | None = None) -> str:
    """Build as setuptools does, then leave out of the archive what differs from build to build."""
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        path = Path(sdist_directory, name)
        path.write_bytes(normalize(path.read_bytes(), int(epoch)))
    return name


def normalize(archive: bytes, epoch: int) -> bytes:
    """Give every member the same time, no owner, and a mode that does not depend on the umask."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            executable = member.isdir() or member.mode & 0o100
            neutral = tarfile.TarInfo(member.name)
            neutral.type, neutral.size, neutral.mtime = member.type, member.size, epoch
            neutral.mode = 0o755 if executable else 0o644
            new.addfile(neutral, old.extractfile(member))
    return packed.getvalue()
