"""A Hub on this machine, over real HTTP, which can be told to fail in every known way."""

import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories (name → files), how they fail, and every request that was made.

    Attributes:
        files: Repository → path → content.
        card: Repository → card data.
        private: Repositories that say they are private.
        gated: Repositories whose listing everybody may see, and whose files only readers.
        readers: Repository → tokens that may read it; others do not even see one that is not gated.
        fault: Path or "api" → how to fail: a status, "gated", "slow", "drip", "cut", "wrong",
            "redirect", "no-range", "html", or the address of another Hub that has the file.
        collections: ``owner/slug`` → its items, (type, name).
        page: Models of an owner that are listed at once.
        go_on: What "slow" and "drip" wait for: before they answer, or after some bytes.
        requests: (path, headers by their name in small letters) of every request.
    """

    def __init__(self):
        self.files, self.card, self.fault, self.requests = {}, {}, {}, []
        self.collections, self.page = {}, 2
        self.private, self.gated, self.readers = set(), set(), {}
        self.go_on = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.handle_error = lambda *_: None  # clients that hang up are part of the tests
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((self.path, headers))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._answer()

    def _send(self, status, body=b"", headers=None, length=None):
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, status, body, headers):
        """Sends some bytes, and the others when it may go on."""
        self._send(status, body[:10], headers, len(body))
        self.hub.go_on.wait(60)
        self.wfile.write(body[10:])

    def _fail(self, fault):
        """Answers a fault; returns whether the request is done with."""
        if isinstance(fault, int):
            self._send(fault, b"{}")
        elif fault == "gated":
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif fault == "slow":
            self.hub.go_on.wait(60)
            self._send(200, b"{}")
        elif fault == "nonsense":
            self._send(200, b'{"id": 7, "siblings": 3}')
        else:
            return False
        return True

    def _may_read(self, repo):
        readers, said = self.hub.readers.get(repo), self.headers.get("Authorization", "")
        return readers is None or said.removeprefix("Bearer ") in readers

    def _answer(self):
        api = re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+?)(/revision/([^?]+))?(\?.*)?", self.path
        )
        if api:
            return self._api("datasets/" * (api[1] == "datasets") + api[2], api[4])
        address = urlsplit(self.path)
        if address.path in ("/api/models", "/api/datasets"):
            kind = address.path.rpartition("/")[2]
            return self._owner(kind, dict(parse_qsl(address.query)))
        if address.path.startswith("/api/collections/"):
            return self._collection(address.path.removeprefix("/api/collections/"))
        got = re.fullmatch(
            rf"(/elsewhere)?/((?:datasets/)?[^/]+/[^/]+)/resolve/{COMMIT}/(.+)", self.path
        )
        if got:
            return self._file(got[2], unquote(got[3]), bool(got[1]))
        return self._send(404, b"{}")

    def _owner(self, kind, asked):
        """Models or data sets of an owner, some at a time; the next by a link, as the Hub does."""
        if "api" in self.hub.fault and self._fail(self.hub.fault["api"]):
            return None
        start = ("datasets/" if kind == "datasets" else "") + asked["author"] + "/"
        found = [repo for repo in self.hub.files if repo.startswith(start)]
        first = int(asked.get("cursor", 0))
        last = first + min(self.hub.page, int(asked["limit"]))
        headers = {"Content-Type": "application/json"}
        if last < len(found):
            link = f"{self.hub.address}/api/{kind}?{urlencode({**asked, 'cursor': last})}"
            headers["Link"] = f'<{link}>; rel="next"'
        names = [repo.removeprefix("datasets/") for repo in found[first:last]]
        body = [{"id": name, "private": False} for name in names]
        return self._send(200, json.dumps(body).encode(), headers)

    def _collection(self, slug):
        if slug not in self.hub.collections:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        items = [{"type": kind, "id": name} for kind, name in self.hub.collections[slug]]
        body = json.dumps({"slug": slug, "title": "x", "items": items}).encode()
        return self._send(200, body, {"Content-Type": "application/json"})

    def _api(self, repo, revision):
        if "api" in self.hub.fault and self._fail(self.hub.fault["api"]):
            return None
        if repo not in self.hub.files:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if not (self._may_read(repo) or repo in self.hub.gated):
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in (None, "main", COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = [
            {"rfilename": path, "size": len(body),
             "lfs": {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body),
                     "pointerSize": 134}}
            for path, body in self.hub.files[repo].items()
        ]  # fmt: skip
        info = {"id": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0,
                "private": repo in self.hub.private, "likes": 0,
                "gated": "manual" if repo in self.hub.gated else False,
                "cardData": self.hub.card.get(repo, {})}  # fmt: skip
        send = self._drip if self.hub.fault.get("api") == "drip" else self._send
        return send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, repo, path, is_elsewhere):
        fault = self.hub.fault.get(path)
        if fault is not None and self._fail(fault):
            return None
        if not self._may_read(repo):
            known = "Authorization" in self.headers
            code = "GatedRepo" if repo in self.hub.gated else "RepoNotFound"
            return self._send(403 if known else 401, b"{}", {"X-Error-Code": code})
        body = self.hub.files.get(repo, {}).get(path)
        if body is None:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        if fault == "redirect" and not is_elsewhere:
            return self._send(302, b"", {"Location": self.hub.address + "/elsewhere" + self.path})
        if str(fault).startswith("http"):
            return self._send(302, b"", {"Location": fault + self.path})
        if fault == "wrong":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault == "html":
            body = b"<html>" + b"x" * (len(body) - 6)
        headers = {"ETag": '"x"', "X-Repo-Commit": COMMIT}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and fault != "no-range":
            first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            send = self._drip if fault == "drip" else self._send
            return send(206, body[first : last + 1], headers)
        if fault == "drip":
            return self._drip(200, body, headers)
        if fault == "cut":  # promises all of it and closes half way
            self._send(200, body[: len(body) // 2], headers, len(body))
            self.close_connection = True
            return None
        return self._send(200, body, headers)
