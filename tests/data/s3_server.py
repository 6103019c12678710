"""An S3 of this machine (moto), which everything that reads the usual environment variables talks to."""

from contextlib import contextmanager

import botocore.session
import pytest
import s3fs


@contextmanager
def s3_server(bucket="photos"):
    """A client of a running server with an empty bucket; the environment names the server meanwhile."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()  # they keep the address of the server they were made for
        try:
            client = botocore.session.get_session().create_client("s3")
            client.create_bucket(Bucket=bucket)
            yield client
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.stop()
