"""An OpenID provider on this machine, as huggingface.co is one for its Spaces.

It has what signing in asks for: metadata, a page of consent, codes for tokens, and the key with
which it signs who somebody is. It is strict: whatever a provider may refuse is refused.
"""

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit


class Provider:
    """Accounts, the one app that is registered, and every reason for which it was refused.

    Attributes:
        token: Of the account that agrees next.
        redirect: Where the app may be sent back to, without the query.
        scopes: What the app may ask for.
        codes: Code → (redirect address, nonce) until it is used.
        refused: What was wrong with requests.
    """

    client, secret = "id-of-the-space", "secret-of-the-space"

    def __init__(self, scopes):
        from joserfc.jwk import RSAKey

        # As long as the tokens of the real one are, since all of a session goes into one cookie.
        self.token = "hf_oauth_" + secrets.token_urlsafe(400)
        self.redirect, self.scopes, self.codes, self.refused = "", scopes, {}, []
        self.key = RSAKey.generate_key(2048, {"kid": "first"})
        handler = type("Handler", (_Handler,), {"provider": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def identity(self, nonce):
        """Who the visitor is, signed for this app and this sign-in."""
        from joserfc import jwt

        now = int(time.time())
        digest = hashlib.sha256(self.token.encode()).digest()[:16]
        claims = {
            "iss": self.address, "aud": self.client, "sub": "7", "iat": now, "exp": now + 600,
            "nonce": nonce, "at_hash": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "name": "A Visitor", "preferred_username": "visitor", "picture": "data:,",
            "profile": f"{self.address}/visitor",
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "first"}, claims, self.key)


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def log_message(self, *_):
        pass

    def _send(self, body, kind="application/json", status=200):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, why):
        self.provider.refused.append(why)
        self._send({"error": "invalid_request", "error_description": why}, status=400)

    def do_GET(self):
        at, path = self.provider.address, urlsplit(self.path).path
        if path == "/.well-known/openid-configuration":
            return self._send({
                "issuer": at, "authorization_endpoint": f"{at}/oauth/authorize",
                "token_endpoint": f"{at}/oauth/token", "jwks_uri": f"{at}/oauth/jwks",
                "userinfo_endpoint": f"{at}/oauth/userinfo",
                "id_token_signing_alg_values_supported": ["RS256"],
            })  # fmt: skip
        if path == "/oauth/jwks":
            return self._send({"keys": [self.provider.key.as_dict(private=False)]})
        if path == "/oauth/authorize":
            return self._consent({k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()})
        return self._send({}, status=404)  # such as the icon that a browser asks for

    def _consent(self, asked):
        """The page on which a visitor agrees, which sends him back with a code and the state."""
        back = asked.get("redirect_uri", "")
        expected = {"client_id": self.provider.client, "response_type": "code"}
        if any(asked.get(k) != v for k, v in expected.items()):
            return self._refuse("another app, or no code asked for")
        if set(asked.get("scope", "").split()) != set(self.provider.scopes.split()):
            return self._refuse("other scopes")
        if back.partition("?")[0] != self.provider.redirect:
            return self._refuse(f"redirect to {back}")
        if not asked.get("state") or not asked.get("nonce"):
            return self._refuse("no state or no nonce")
        code = secrets.token_urlsafe(12)
        self.provider.codes[code] = (back, asked["nonce"])
        link = f"{back}&{urlencode({'code': code, 'state': asked['state']})}"
        deny = f"{back}&{urlencode({'error': 'access_denied', 'state': asked['state']})}"
        page = "".join(
            f'<a href="{html.escape(to)}">{word}</a> '
            for to, word in ((link, "Authorize"), (deny, "Cancel"))
        )
        return self._send(page, "text/html")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        given = {k: v[0] for k, v in parse_qs(body).items()}
        own = f"{self.provider.client}:{self.provider.secret}".encode()
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(own).decode():
            return self._refuse("client credentials")
        back, nonce = self.provider.codes.pop(given.get("code"), (None, None))
        if back is None or given.get("redirect_uri") != back:
            return self._refuse("code")
        return self._send({
            "access_token": self.provider.token, "token_type": "bearer", "expires_in": 28800,
            "scope": self.provider.scopes, "id_token": self.provider.identity(nonce),
        })  # fmt: skip
