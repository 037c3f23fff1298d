"""An S3 server of the tests' own: moto, over HTTP, in a process of its own that ends with this one."""

from __future__ import annotations

import subprocess
import sys
import uuid

import boto3

KEY, SECRET = "AKIAQUIRETESTKEY0000", "quire/test+secret0000000000000000000000"
_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.disable()
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


class S3:
    """A running server."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        host, port = self._process.stdout.readline().split()
        self.address = (host, int(port))
        self.endpoint = f"http://{host}:{port}"
        self._client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def bucket(self) -> str:
        """The name of a new one."""
        name = f"quire-{uuid.uuid4().hex[:12]}"
        self._client.create_bucket(Bucket=name)
        return name

    def get(self, bucket: str, name: str) -> bytes:
        """An object's bytes, without Quire in between."""
        return bytes(self._client.get_object(Bucket=bucket, Key=name)["Body"].read())

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=bucket, Key=name, Body=data)

    def delete(self, bucket: str, name: str) -> None:
        self._client.delete_object(Bucket=bucket, Key=name)

    def names(self, bucket: str) -> list[str]:
        """All objects of a bucket."""
        return [entry["Key"] for entry in self._client.list_objects_v2(Bucket=bucket).get("Contents", [])]

    def uploads(self, bucket: str) -> int:
        """Uploads in parts that were begun and neither completed nor given up."""
        return len(self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
