"""Downloads what the native test servers need into the cache folder. Run by ``make test-servers``, never by a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.servers import (
    APICURIO_FOLDER,
    APICURIO_VERSION,
    ASYNCAPI_PARSER,
    ASYNCAPI_VERSION,
    CACHE,
    KAFKA_JARS,
    KAFKA_VERSION,
    S3_BINARY,
    VERSITYGW_VERSION,
    WEAVIATE_BINARY,
    WEAVIATE_VERSION,
)

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>earshot</groupId><artifactId>test-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{KAFKA_VERSION}</version></dependency>
  </dependencies>
</project>
"""


def fetch() -> None:
    """Get what is not there yet, at the same time. Raises ``SystemExit`` naming the tool that is missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = (
        (f"Kafka {KAFKA_VERSION}", KAFKA_JARS, "mvn", _kafka),
        (f"Apicurio {APICURIO_VERSION}", APICURIO_FOLDER, "mvn", _apicurio),
        (f"Weaviate {WEAVIATE_VERSION}", WEAVIATE_BINARY, "go", _weaviate),
        (f"versitygw {VERSITYGW_VERSION}", S3_BINARY, "go", _versitygw),
        (f"@asyncapi/parser {ASYNCAPI_VERSION}", ASYNCAPI_PARSER, "npm", _asyncapi),
    )
    with ThreadPoolExecutor(len(wanted)) as pool:
        for done in [pool.submit(_fetch, *one) for one in wanted]:
            done.result()


def _fetch(what: str, target: Path, tool: str, get: Callable[[Path], Path]) -> None:
    if target.exists():
        print(f"{what}: already at {target}")
        return
    if shutil.which(tool) is None:
        raise SystemExit(f"{what} needs `{tool}` on the PATH to be fetched; install it and run this again.")
    print(f"{what}: fetching into {target} …", flush=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        target.parent.mkdir(parents=True, exist_ok=True)
        get(Path(folder)).rename(target)


def _kafka(folder: Path) -> Path:
    """The jars by Maven, which checks their checksums."""
    (folder / "pom.xml").write_text(POM)
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
    options = [f"-DoutputDirectory={folder / 'lib'}", "-DincludeScope=runtime"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), goal, *options], check=True)
    return folder / "lib"


def _apicurio(folder: Path) -> Path:
    """The schema registry by Maven, unpacked."""
    goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"
    artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"
    command = ["mvn", "-q", "-B", goal, artifact, f"-DoutputDirectory={folder / 'registry'}"]
    subprocess.run(command, check=True, cwd=folder)  # it leaves its markers where it runs
    return folder / "registry"


def _asyncapi(folder: Path) -> Path:
    """The parser of AsyncAPI documents by npm, which checks the checksums."""
    target = folder / "parser"
    target.mkdir()
    subprocess.run(
        [
            "npm",
            "install",
            "--silent",
            "--ignore-scripts",
            "--prefix",
            str(target),
            f"@asyncapi/parser@{ASYNCAPI_VERSION}",
        ],
        check=True,
    )
    return target


def _weaviate(folder: Path) -> Path:
    return _go(folder, "github.com/weaviate/weaviate/cmd/weaviate-server", WEAVIATE_VERSION)


def _versitygw(folder: Path) -> Path:
    return _go(folder, "github.com/versity/versitygw/cmd/versitygw", VERSITYGW_VERSION)


def _go(folder: Path, module: str, version: str) -> Path:
    """A program by ``go install``, which checks it against the Go checksum database."""
    subprocess.run(["go", "install", f"{module}@v{version}"], env={**os.environ, "GOBIN": str(folder)}, check=True)
    return folder / module.rpartition("/")[2]
