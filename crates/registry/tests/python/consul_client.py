"""What a program written for Consul does, with py-consul as it is: register, heartbeat, look, wait, leave."""

import sys
import threading
import time

import consul

host, port = sys.argv[1].split(":")
client = consul.Consul(host=host, port=int(port))


def wait_until(what, condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def passing():
    return client.health.service("mail", passing=True)[1]


assert client.agent.self()["Config"]["Datacenter"] == "dc1"
assert client.catalog.services()[1] == {}

check = consul.Check.ttl("30s")
assert client.agent.service.register(
    "mail", service_id="mail-1", address="10.0.0.5", port=7070, tags=["blue"], meta={"owner": "ops"}, check=check
)
# Registered, and in rotation only once it says that it is well.
wait_until("listed", lambda: client.catalog.service("mail")[1])
assert passing() == []
assert client.health.service("mail")[1][0]["Checks"][0]["Status"] == "critical"
assert client.agent.check.ttl_pass("service:mail-1")
wait_until("passing", passing)

[entry] = passing()
assert entry["Service"]["ID"] == "mail-1" and entry["Service"]["Port"] == 7070, entry
assert entry["Service"]["Tags"] == ["blue"] and entry["Service"]["Meta"] == {"owner": "ops"}, entry
assert entry["Node"]["Address"] == "10.0.0.5", entry
[entry] = client.catalog.service("mail", tag="blue")[1]
assert (entry["ServiceAddress"], entry["ServicePort"]) == ("10.0.0.5", 7070), entry
assert client.catalog.service("mail", tag="green")[1] == []
assert client.catalog.services()[1] == {"mail": ["blue"]}
assert client.health.service("nobody")[1] == []

# A blocking query answers when the service changes.
index = int(client.health.service("mail")[0])
answers = []
thread = threading.Thread(target=lambda: answers.append(client.health.service("mail", index=index, wait="20s")))
started = time.monotonic()
thread.start()
assert client.agent.check.ttl_fail("service:mail-1")
thread.join()
assert time.monotonic() - started < 15
assert int(answers[0][0]) > index, answers
assert answers[0][1][0]["Checks"][0]["Status"] == "critical", answers
assert client.agent.check.ttl_warn("service:mail-1")
wait_until("passing again", passing)

# Registering again keeps the state of the check, and checks may have ids of their own.
assert client.agent.service.register(
    "mail", service_id="mail-1", address="10.0.0.5", port=7070, tags=["blue"], meta={"owner": "ops"}, check=check
)
assert passing(), "still passing"
assert client.agent.service.register(
    "web", service_id="web-1", address="10.0.0.5", port=80, check={**check, "CheckID": "web-alive"}
)
assert client.agent.check.ttl_pass("web-alive")
wait_until("web passes", lambda: client.health.service("web", passing=True)[1])
assert client.health.service("web")[1][0]["Checks"][0]["CheckID"] == "web-alive"
assert client.agent.service.deregister("web-1")

# 404 is how Consul says: register again.
assert not client.agent.check.ttl_pass("service:nobody")
try:
    client.agent.service.register("Mail", port=7070, check=check)
    raise SystemExit("a name that is none was taken")
except consul.ConsulException as error:
    assert "Name" in str(error), error

assert client.agent.service.deregister("mail-1")
wait_until("gone", lambda: client.catalog.services()[1] == {})
assert not client.agent.service.deregister("mail-1")
print("all of it")
