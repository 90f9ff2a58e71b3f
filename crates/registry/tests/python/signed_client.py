"""Registers an instance, and writes a setting under a condition, signed by somebody else's implementation of RFC 9421.

usage: signed_client.py URL NAME KEY
"""

import secrets
import sys
import urllib.error
import urllib.request

from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms


class Message:
    """A request as http_message_signatures wants to see it."""

    def __init__(self, method, url, headers):
        self.method, self.url, self.headers = method, url, headers


class Keys(HTTPSignatureKeyResolver):
    def __init__(self, key):
        self.key = key

    def resolve_private_key(self, key_id):
        return self.key

    resolve_public_key = resolve_private_key


def ask(method, path, body, headers=None):
    url, name, key = sys.argv[1] + path, sys.argv[2], bytes.fromhex(sys.argv[3])
    headers = {"Content-Type": "application/json", **(headers or {})}
    message = Message(method, url, headers)
    signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys(key))
    covered = ["@method", "@path", *(name.lower() for name in headers)]
    nonce = secrets.token_urlsafe(16)
    # With the body it adds Content-Digest, and covers it.
    signer.sign(message, key_id=name, covered_component_ids=covered, nonce=nonce, body=body)
    request = urllib.request.Request(url, data=body, method=method, headers=message.headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        print(error.read().decode())
        return error.code


print(ask("PUT", "/v1/services/shop/instances/a", b'{"address":"10.0.0.5:7070"}'))
print(ask("PUT", "/v1/config/shop/limit", b"100", {"If-None-Match": "*"}))
print(ask("PUT", "/v1/config/shop/limit", b"1000", {"If-None-Match": "*"}))
