"""A service that says who may pass, by the code flow of OpenID Connect (RFC 6749, with PKCE of RFC 7636), with a session in memory."""

import base64, hashlib, json, os, secrets, urllib.parse, urllib.request

PROVIDER = os.environ["PROVIDER"]
# Where the browser finds this service: behind the gateway, like everything else.
OWN = os.environ["OWN"]
SESSIONS, PENDING = {}, {}


def cookies(environ):
    pairs = (part.strip().partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
    return {name: value for name, _, value in pairs}


def fetched(url, data=None, **fields):
    request = urllib.request.Request(url, data and urllib.parse.urlencode(data).encode(), fields)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def verify(environ, answer):
    user = SESSIONS.get(cookies(environ).get("session"))
    if user:
        return answer("200 OK", [("X-Auth-User", user), ("X-Auth-Asked", environ["HTTP_X_FORWARDED_URI"])])
    state, verifier = secrets.token_urlsafe(16), secrets.token_urlsafe(48)
    PENDING[state] = (verifier, environ["HTTP_X_FORWARDED_URI"])
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = urllib.parse.urlencode({
        "client_id": "muster", "redirect_uri": OWN + "/callback", "response_type": "code", "scope": "openid email",
        "state": state, "code_challenge": challenge, "code_challenge_method": "S256"})
    answer("302 Found", [("Location", f"{PROVIDER}/oauth2/authorize?{query}"),
                         ("Set-Cookie", f"state={state}; Path=/; HttpOnly; SameSite=Lax"),
                         ("Set-Cookie", "seen=1; Path=/")])


def callback(environ, answer):
    query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    state = cookies(environ).get("state")
    if not state or query.get("state") != state or state not in PENDING:
        return answer("403 Forbidden", [])
    verifier, back = PENDING.pop(state)
    try:
        tokens = fetched(PROVIDER + "/oauth2/token", {
            "grant_type": "authorization_code", "code": query["code"], "client_id": "muster", "client_secret": "any",
            "redirect_uri": OWN + "/callback", "code_verifier": verifier})
        user = fetched(PROVIDER + "/userinfo", Authorization="Bearer " + tokens["access_token"])
    except OSError as error:
        return answer("502 Bad Gateway", [], str(error))
    session = secrets.token_urlsafe(16)
    SESSIONS[session] = user["sub"]
    # A path of its own would be one below its name at the gateway.
    answer("302 Found", [("Location", OWN.rsplit("/", 1)[0] + back), ("Set-Cookie", f"session={session}; Path=/; HttpOnly")])


def logout(environ, answer):
    SESSIONS.pop(cookies(environ).get("session"), None)
    answer("200 OK", [("Set-Cookie", "session=; Path=/; Max-Age=0")])


PAGES = {"/verify": verify, "/callback": callback, "/logout": logout}


def app(environ, start_response):
    body = []

    def answer(status, fields, text=""):
        body.append(text.encode())
        start_response(status, [*fields, ("Content-Length", str(len(body[0])))])

    PAGES.get(environ["PATH_INFO"], lambda _, answer: answer("404 Not Found", []))(environ, answer)
    return body
