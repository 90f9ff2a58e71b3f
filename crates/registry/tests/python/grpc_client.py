"""A client of muster.v1: grpcio, and what grpc_tools makes of muster.proto.

grpc_client.py PROTO all HOST:PORT           everything once
grpc_client.py PROTO stay HOST:PORT...       register and watch until it is killed, at whichever registry answers
"""

import importlib
import pathlib
import queue
import sys
import tempfile
import threading
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from grpc_tools import protoc
from google.rpc import error_details_pb2

proto = pathlib.Path(sys.argv[1])
generated = tempfile.mkdtemp()
arguments = ["", f"-I{proto.parent}", f"--python_out={generated}", f"--grpc_python_out={generated}", str(proto)]
assert protoc.main(arguments) == 0
sys.path.insert(0, generated)
pb = importlib.import_module("muster_pb2")
rpc = importlib.import_module("muster_pb2_grpc")


def beat(life, port=7070, ttl_ms=8000, **fields):
    instance = pb.Instance(address=f"10.0.0.5:{port}", **fields)
    return pb.Heartbeat(service="mail", id="mail-1", instance=instance, ttl_ms=ttl_ms, incarnation=life)


class Beats:
    """A stream of heartbeats with an answer to each, for which it waits so long."""

    def __init__(self, registry, timeout=20):
        self.heartbeats = queue.Queue()
        self.timeout = timeout
        self.replies = registry.Register(iter(self.heartbeats.get, None))
        self.answers = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for reply in self.replies:
                self.answers.put(reply)
            self.answers.put(EOFError("the stream has ended"))
        except grpc.RpcError as error:
            self.answers.put(error)

    def say(self, heartbeat):
        self.heartbeats.put(heartbeat)
        try:
            answer = self.answers.get(timeout=self.timeout)
        except queue.Empty:
            self.close()
            raise TimeoutError from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.heartbeats.put(None)
        self.replies.cancel()


def refusal(call):
    try:
        call()
    except grpc.RpcError as error:
        info = error_details_pb2.ErrorInfo()
        details = {detail.TypeName(): detail for detail in rpc_status.from_call(error).details}
        assert details["google.rpc.ErrorInfo"].Unpack(info)
        assert info.domain == "muster", info
        return error.code(), info.reason
    raise SystemExit("it was not refused")


def everything(address):
    channel = grpc.insecure_channel(address)
    registry = rpc.RegistryStub(channel)
    assert list(registry.List(pb.ListRequest(service="mail")))[0].instances == []
    watched = registry.Watch(pb.WatchRequest(service="mail"))
    first = next(watched)
    assert first.reset and not first.changed, first

    beats = Beats(registry)
    reply = beats.say(beat("new", zone="a", tags=["blue"], meta={"owner": "ops"}))
    assert reply.status == pb.STATUS_PASSING and reply.ttl_ms == 8000 and len(reply.incarnation) == 16, reply
    life = reply.incarnation
    added = next(reply for reply in watched if reply.changed)
    assert added.changed[0].id == "mail-1" and added.changed[0].instance.zone == "a", added
    again = beats.say(beat(life, zone="a", tags=["blue"], meta={"owner": "ops"}))
    assert again.incarnation == life
    assert beats.say(beat(life, status=pb.STATUS_CRITICAL, reason="no disk")).status == pb.STATUS_CRITICAL
    changed = next(reply for reply in watched if reply.changed)
    assert changed.changed[0].instance.reason == "no disk" and changed.index > added.index, changed
    beats.close()

    [one] = [one for part in registry.List(pb.ListRequest(service="mail")) for one in part.instances]
    assert one.incarnation == life and one.instance.address == "10.0.0.5:7070", one
    # Another life takes the id over, and the first one is told.
    second = Beats(registry).say(beat("new", port=7071)).incarnation
    assert refusal(lambda: Beats(registry).say(beat(life))) == (grpc.StatusCode.ABORTED, "another_incarnation")
    leave = lambda life: registry.Deregister(pb.DeregisterRequest(service="mail", id="mail-1", incarnation=life))  # noqa: E731
    assert refusal(lambda: leave(life)) == (grpc.StatusCode.ABORTED, "another_incarnation")
    assert leave(second).revision > 0
    gone = next(reply for reply in watched if reply.removed)
    assert gone.removed[0].cause == "deregistered", gone
    ended = (grpc.StatusCode.FAILED_PRECONDITION, "incarnation_ended")
    assert refusal(lambda: Beats(registry).say(beat(second))) == ended
    wrong = pb.Heartbeat(service="Mail", instance=pb.Instance(address="10.0.0.5:1"))
    assert refusal(lambda: Beats(registry).say(wrong)) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_field")

    # Where it was left, over a connection of its own.
    later = rpc.RegistryStub(grpc.insecure_channel(address)).Watch(pb.WatchRequest(service="mail", index=changed.index))
    missed = next(later)
    assert not missed.reset and missed.removed, missed
    # On a busy machine it may be late to be so.
    health = health_pb2_grpc.HealthStub(channel)
    told = health.Watch(health_pb2.HealthCheckRequest(service="muster.v1.Registry"), timeout=20)
    assert any(one.status == health_pb2.HealthCheckResponse.SERVING for one in told)
    print("all of it")


def stay(addresses):
    """Announces itself with a deadline of a second for each registry, and watches itself."""
    # A channel of one connection each, which is opened again as soon as it breaks.
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300)]
    stubs = {address: rpc.RegistryStub(grpc.insecure_channel(address, options=options)) for address in addresses}

    def announce():
        life, at, beats = "new:4f2a90c1d3e5b677", 0, None
        while True:
            address = addresses[at % len(addresses)]
            try:
                beats = beats or Beats(stubs[address], timeout=1)
                life = beats.say(beat(life)).incarnation
                print("taken", address, life, flush=True)
                time.sleep(0.2)
            except (grpc.RpcError, TimeoutError, EOFError):
                if beats:
                    beats.close()
                at, beats = at + 1, None
                time.sleep(0.05)

    def watch():
        index, at = 0, 0
        while True:
            address = addresses[at % len(addresses)]
            try:
                # A registry says every 10 s that it is there; this one wants to know sooner, and asks anew.
                for reply in stubs[address].Watch(pb.WatchRequest(service="mail", index=index), timeout=2):
                    index = reply.index or index
                    if reply.removed:
                        print("removed", reply.removed[0].cause, flush=True)
                    print("watched", address, index, flush=True)
            except grpc.RpcError:
                at += 1
                time.sleep(0.05)

    threads = [threading.Thread(target=work, daemon=True) for work in (announce, watch)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


if sys.argv[2] == "all":
    everything(sys.argv[3])
else:
    stay(sys.argv[3:])
