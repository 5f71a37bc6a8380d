"""A cloud that hands out roles, and a bucket that only the role may list: `python cloud.py PORT TLS_PORT DIRECTORY SECONDS`.

Each kind of login has its own credentials, so that a listing tells which of them was used: the one photo in the bucket
is named after it. Without the right credentials, nothing is listed. They are right for SECONDS, and until somebody asks
for /rotate: so a process must ask for others, with the token that the pod's file has by then. TLS is for the token service of AWS only, which is
never asked without it; the certificate is in DIRECTORY.
"""

import json
import pathlib
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIRECTORY = pathlib.Path(sys.argv[3])
SECONDS = int(sys.argv[4])
rotated = 0


def pod_token():
    """The pod's own token, as the platform puts it into a file, and changes it there."""
    return (DIRECTORY / "pod-token").read_text()


def expires():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + SECONDS))


def aws(name):
    return {"AccessKeyId": f"KEY-{name}-{rotated}", "SecretAccessKey": "s", "Token": f"token-{name}-{rotated}",
            "Expiration": expires()}


def s3(photo):
    return f"""<ListBucketResult><Contents><Key>photos/{photo}.jpg</Key><Size>1</Size>
        <LastModified>2026-11-30T00:00:00Z</LastModified><ETag>"1"</ETag></Contents></ListBucketResult>"""


def azure(photo):
    return f"""<EnumerationResults><Blobs><Blob><Name>photos/{photo}.jpg</Name><Properties>
        <Last-Modified>Mon, 30 Nov 2026 00:00:00 GMT</Last-Modified><Content-Length>1</Content-Length>
        <Content-Type>image/jpeg</Content-Type><Etag>1</Etag></Properties></Blob></Blobs><NextMarker/>
        </EnumerationResults>"""


class Cloud(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        body = (json.dumps(body) if isinstance(body, dict) else body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def asked(self, body=""):
        global rotated
        # `self.path` would hide a double slash.
        path, _, query = self.requestline.split()[1].partition("?")
        query += "&" + body
        said = self.headers.get("Authorization", "")
        token = self.headers.get("x-amz-security-token", "")
        if path == "/rotate":
            rotated += 1
            return self.answer("done")
        # Who gives out roles.
        if path == "/latest/api/token" and self.command == "PUT":
            return self.answer("instance")
        if path == "/latest/meta-data/iam/security-credentials/":
            return self.answer("photogate")
        if path == "/latest/meta-data/iam/security-credentials/photogate":
            if self.headers.get("X-aws-ec2-metadata-token") == "instance":
                return self.answer({"Code": "Success", **aws("instance")})
        if path == "/v1/credentials" and said == pod_token():
            return self.answer(aws("pod"))
        if "Action=AssumeRoleWithWebIdentity" in query and isinstance(self.connection, ssl.SSLSocket):
            if pod_token() in query and "role%2Fphotogate" in query:
                given = aws("web")
                given["SessionToken"] = given.pop("Token")
                fields = "".join(f"<{name}>{value}</{name}>" for name, value in given.items())
                return self.answer(f"""<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>
                    <Credentials>{fields}</Credentials></AssumeRoleWithWebIdentityResult>
                    </AssumeRoleWithWebIdentityResponse>""")
        if path == "/tenant/oauth2/v2.0/token" and pod_token() in query:
            return self.answer({"access_token": f"azure-{rotated}", "expires_in": SECONDS, "token_type": "Bearer"})
        if path == "/computeMetadata/v1/instance/service-accounts/default/token":
            if self.headers.get("Metadata-Flavor") == "Google":
                return self.answer({"access_token": f"google-{rotated}", "expires_in": SECONDS, "token_type": "Bearer"})
        # The bucket.
        for name in ("instance", "pod", "web"):
            if f"Credential=KEY-{name}-{rotated}/" in said and token == f"token-{name}-{rotated}":
                return self.answer(s3(name))
        if said == f"Bearer azure-{rotated}":
            return self.answer(azure("azure"))
        if said == f"Bearer google-{rotated}":
            return self.answer(s3("google"))
        return self.answer("no", 403)

    do_GET = do_PUT = asked

    def do_POST(self):
        self.asked(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())


plain = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Cloud)
tls = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Cloud)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(DIRECTORY / "server.pem", DIRECTORY / "server.key")
tls.socket = context.wrap_socket(tls.socket, server_side=True)
threading.Thread(target=tls.serve_forever, daemon=True).start()
plain.serve_forever()
