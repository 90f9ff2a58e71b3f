"""Makes keys, and tokens by two libraries: good ones, and bad ones as attackers make them."""

import base64, hashlib, hmac, json, time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwk as jose_jwk, jwt as jose_jwt

NOW = int(time.time())
CLAIMS = {"iss": "https://id.example", "aud": "mail", "sub": "ann", "email": "ann@example.org",
          "exp": NOW + 3600, "nbf": NOW - 10, "iat": NOW, "scope": "openid mail.read"}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def private(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def public(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


RSA, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
EC = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
ED = ed25519.Ed25519PrivateKey.generate()
SECRETS = {"HS256": b"s" * 32, "HS384": b"s" * 48, "HS512": b"s" * 64}
RSA_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]


def of_set(key, kid, **more):
    made = jose_jwk.import_key(public(key), "OKP" if key is ED else "EC" if key in EC.values() else "RSA")
    return {**made.as_dict(), "kid": kid, **more}


KEYS = [of_set(RSA, name, alg=name, use="sig") for name in RSA_ALGORITHMS]
KEYS += [of_set(key, name) for name, key in EC.items()]
KEYS += [of_set(ED, "EdDSA")]
KEYS += [{"kty": "oct", "k": b64(secret), "alg": name, "kid": name} for name, secret in SECRETS.items()]
SIGNERS = {name: RSA for name in RSA_ALGORITHMS} | EC | {"EdDSA": ED}


def pyjwt(algorithm, claims=CLAIMS, key=None, **header):
    if key is None:
        key = SECRETS.get(algorithm) or SIGNERS[algorithm]
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": algorithm, **header})


def joserfc(algorithm):
    if algorithm in SECRETS:
        key = jose_jwk.OctKey.import_key(SECRETS[algorithm])
    else:
        kind = "OKP" if algorithm == "EdDSA" else "EC" if algorithm in EC else "RSA"
        key = jose_jwk.import_key(private(SIGNERS[algorithm]), kind)
    return jose_jwt.encode({"alg": algorithm, "kid": algorithm}, CLAIMS, key, algorithms=[algorithm])


def signed(header, payload, sign):
    """A token with these very bytes."""
    message = b64(header.encode()) + "." + b64(payload.encode())
    return message + "." + b64(sign(message.encode()))


def hs(secret):
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


def changed(**claims):
    return {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}


GOOD = {f"PyJWT {name}": pyjwt(name) for name in [*SIGNERS, *SECRETS]}
GOOD |= {f"joserfc {name}": joserfc(name) for name in [*SIGNERS, *SECRETS]}
GOOD |= {"a list of audiences": pyjwt("RS256", changed(aud=["web", "mail"])),
         "scp": pyjwt("RS256", changed(scope=None, scp=["mail.read"])),
         "an access token by its type": pyjwt("RS256", typ="at+jwt"),
         "within the leeway": pyjwt("RS256", changed(exp=NOW - 5, nbf=NOW + 5))}

PAYLOAD = json.dumps(CLAIMS)
HEADER = '{"alg":"HS256","kid":"HS256"}'
SECRET = SECRETS["HS256"]
HEAD, BODY, SIGNATURE = GOOD["PyJWT RS256"].split(".")
BAD = {
    "expired": pyjwt("RS256", changed(exp=NOW - 60)),
    "no expiry": pyjwt("RS256", changed(exp=None)),
    "not yet valid": pyjwt("RS256", changed(nbf=NOW + 60)),
    "another audience": pyjwt("RS256", changed(aud="web")),
    "no audience": pyjwt("RS256", changed(aud=None)),
    "another issuer": pyjwt("RS256", changed(iss="https://evil.example")),
    "no issuer": pyjwt("RS256", changed(iss=None)),
    "alg none": b64(b'{"alg":"none","kid":"RS256"}') + "." + b64(PAYLOAD.encode()) + ".",
    "alg none in capitals": b64(b'{"alg":"NONE","kid":"RS256"}') + "." + b64(PAYLOAD.encode()) + ".",
    "no algorithm": signed('{"kid":"HS256"}', PAYLOAD, hs(SECRET)),
    "HS with the RSA public key in PEM": signed('{"alg":"HS256","kid":"RS256"}', PAYLOAD, hs(public(RSA))),
    "HS with the modulus": signed('{"alg":"HS256","kid":"RS256"}', PAYLOAD, hs(KEYS[0]["n"].encode())),
    "HS with no secret": signed(HEADER, PAYLOAD, hs(b"")),
    "another RSA algorithm than the key's": pyjwt("PS256", kid="RS256"),
    "another key": pyjwt("RS256", key=OTHER),
    "embedded jwk": pyjwt("RS256", key=OTHER, jwk=of_set(OTHER, "x")),
    "embedded jwk of the right key": pyjwt("RS256", jwk=of_set(RSA, "x")),
    "jku": pyjwt("RS256", jku="http://127.0.0.1:1/jwks"),
    "x5u": pyjwt("RS256", x5u="http://127.0.0.1:1/cert"),
    "x5c": pyjwt("RS256", x5c=["AAAA"]),
    "crit": signed('{"alg":"HS256","kid":"HS256","crit":["exp"]}', PAYLOAD, hs(SECRET)),
    "9 KiB": pyjwt("RS256", changed(padding="x" * 9 * 1024)),
    "a claim twice": signed(HEADER, PAYLOAD[:-1] + ',"sub":"root"}', hs(SECRET)),
    "a header member twice": signed('{"alg":"none","alg":"HS256","kid":"HS256"}', PAYLOAD, hs(SECRET)),
    "a changed payload": HEAD + "." + b64(json.dumps(changed(sub="root")).encode()) + "." + SIGNATURE,
    "no signature": HEAD + "." + BODY + ".",
    "two parts": HEAD + "." + BODY,
    "five parts": GOOD["PyJWT RS256"] + "..",
    "padding": GOOD["PyJWT RS256"] + "==",
    "a payload that is a list": signed(HEADER, "[]", hs(SECRET)),
    "a report of a logout": pyjwt("RS256", typ="logout+jwt"),
    "a proof of possession": pyjwt("RS256", typ="dpop+jwt"),
    "a security event": pyjwt("RS256", changed(events={"http://schemas.openid.net/event/backchannel-logout": {}})),
    "an unknown key": pyjwt("RS256", kid="unknown"),
    "no key id": jwt.encode(CLAIMS, RSA, algorithm="RS256"),
    "a key id that is a number": signed('{"alg":"HS256","kid":1}', PAYLOAD, hs(SECRET)),
}
NEW = of_set(OTHER, "new", alg="RS256")
print(json.dumps({"jwks": {"keys": KEYS}, "good": GOOD, "bad": BAD,
                  "narrow": pyjwt("RS256", changed(scope="mail.write")),
                  "rotated": {"keys": [NEW]}, "new": pyjwt("RS256", key=OTHER, kid="new")}))
