"""A mail server that a test can tell how to be.

    postmaster.py PORT [CERTIFICATE KEY]

It reads its mood from stdin, a line each: well; hangs (it does not answer when a recipient is named);
silent (it takes the mail, and does not say so); drops (it takes the mail, and hangs up); connect CODE, from CODE, to CODE, data CODE (it answers so
at that step), with words behind the code; to ADDRESS CODE. It writes what it has taken, and what it was asked to do, as JSON lines to stdout.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

mood = ["well"]


def say(**what):
    print(json.dumps(what), flush=True)


class Postmaster:
    async def answer(self, step, address=None):
        words = mood[0].split(" ")
        if words[0] == step and "@" in words[1]:
            return " ".join(words[2:]) if words[1] == address else None
        return " ".join(words[1:]) if words[0] == step else None

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        answer = await self.answer("connect")
        return [answer] if answer else responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        answer = await self.answer("from")
        envelope.mail_from = address
        return answer or "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        say(step="to", to=address)
        if mood[0] == "hangs":
            await asyncio.sleep(3600)
        answer = await self.answer("to", address)
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        answer = await self.answer("data")
        say(
            step="data",
            accepted=answer is None,
            to=envelope.rcpt_tos,
            tls=session.ssl is not None,
            mail=envelope.content.decode("utf-8", "surrogateescape"),
        )
        if mood[0] == "silent":
            # It has taken the mail, and nobody hears of it.
            await asyncio.sleep(3600)
        if mood[0] == "drops":
            server.transport.abort()
        return answer or "250 it is in good hands"


class Server(Controller):
    def factory(self):
        return SMTP(self.handler, hostname="postmaster", enable_SMTPUTF8=True, **self.more)


more = {}
if len(sys.argv) > 2:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    more = {"tls_context": context, "require_starttls": True}
Server.more = more
server = Server(Postmaster(), hostname="127.0.0.1", port=int(sys.argv[1]))
server.start()
say(step="ready", port=server.server.sockets[0].getsockname()[1])
for line in sys.stdin:
    mood[0] = line.strip()
    say(step="mood", mood=mood[0])
server.stop()
