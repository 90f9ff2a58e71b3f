"""Verifies a signed message with dkimpy: verify.py RECORD < MESSAGE. Prints whether it holds, where its key is, and how it was signed."""

import sys

import dkim

record = sys.argv[1].encode()
asked = []


def dns(name, timeout=5):
    asked.append(name.decode())
    return record


verifier = dkim.DKIM(sys.stdin.buffer.read())
try:
    holds = verifier.verify(dnsfunc=dns)
except dkim.ValidationError as error:
    print("False", error)
else:
    print(holds, ",".join(asked), verifier.signature_fields[b"c"].decode())
