"""A real mail server for tests: STARTTLS where it has a certificate, a login where it wants one, each mail a file."""

import asyncio
import pathlib
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword


class Keep:
    def __init__(self, directory):
        self.directory = directory
        self.count = 0

    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        head = f"X-Envelope-From: {envelope.mail_from}\nX-Envelope-To: {','.join(envelope.rcpt_tos)}\nX-TLS: {session.ssl is not None}\n"
        part = self.directory / f"{self.count:04}.part"
        part.write_bytes(head.encode() + envelope.content.replace(b"\r\n", b"\n"))
        part.rename(self.directory / f"{self.count:04}.eml")
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"backstop", b"mail-password")
    return AuthResult(success=good)


def main():
    directory, port, certificate = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
    options = {}
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        options = {
            "tls_context": context,
            "require_starttls": True,
            "authenticator": login,
            "auth_required": True,
        }
    controller = Controller(Keep(directory), hostname="127.0.0.1", port=port, **options)
    controller.start()
    print("ready", flush=True)
    asyncio.new_event_loop().run_forever()


main()
