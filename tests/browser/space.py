"""A Hugging Face Space on this machine: https in front of the app, and the variables it gets."""

import asyncio
import base64
import hashlib
import re
import ssl
import threading

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate


def certificate(folder):
    """A certificate for 127.0.0.1 whose authority no browser knows: a file with its key, and what
    tells a browser to take it for good. One that it only overlooks lets it cache nothing."""
    path = folder / "edge.pem"
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    key = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    known = base64.b64encode(digest.digest()).decode()
    return path, f"--ignore-certificate-errors-spki-list={known}"


class Edge:
    """What stands before the app of a Space: takes https, gives http, and says so in a header.

    Attributes:
        host: host:port, a Space's SPACE_HOST.
        flag: Chromium's, by which it takes the certificate for good.
        sent: All that went to browsers, as it was before encryption.
    """

    def __init__(self, folder, port):
        self.port, self.sent, self.loop = port, bytearray(), asyncio.new_event_loop()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path, self.flag = certificate(folder)
        self.context.load_cert_chain(path)
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait(10)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        server = self.loop.run_until_complete(serving)
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        self.loop.run_forever()
        left = asyncio.all_tasks(self.loop)  # browsers keep connections, as does the page's stream
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    async def _serve(self, reader, writer):
        """One browser's connection, and one to the app for it."""
        to_app = None
        try:
            from_app, to_app = await asyncio.open_connection("127.0.0.1", self.port)
            ways = [self._requests(reader, to_app), self._pass(from_app, writer, self.sent)]
            ways = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:  # whoever has left, the other is told
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the app has left
        finally:
            for end in (to_app, writer):
                if end is not None:
                    end.close()

    async def _requests(self, reader, to_app):
        """Says of each request that it came by https, and takes away that it may be packed."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            head = re.sub(r"(?im)^accept-encoding:.*\r\n", "", head)
            to_app.write(
                head.replace("\r\n", "\r\nX-Forwarded-Proto: https\r\n", 1).encode("latin-1")
            )
            if length:
                to_app.write(await reader.readexactly(int(length[1])))
            await to_app.drain()

    async def _pass(self, reader, writer, copy=None):
        while piece := await reader.read(1 << 16):
            if copy is not None:
                copy += piece
            writer.write(piece)
            await writer.drain()
