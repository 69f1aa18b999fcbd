"""The Flask application: a page, one endpoint that predicts, one that tells how it is."""

import io
import logging
from pathlib import Path

from flask import Flask, Request, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from utils.demo.analysis import Analyst
from utils.demo.pictures import MAX_BYTES, MAX_PIXELS, TOO_LARGE, Refused
from utils.demo.worker import Worker

FORM_OVERHEAD = 16_384  # boundaries and headers of the multipart body
OPENAPI = Path(__file__).with_name("openapi.yaml")
log = logging.getLogger("utils.demo")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class MemoryRequest(Request):
    """A request whose upload stays in memory; Werkzeug's own goes to disk from 500 kB on."""

    max_form_parts = 10

    def _get_file_stream(self, *_, **__):
        return io.BytesIO()


def create_app(analyst: Analyst, worker: Worker, names=()) -> Flask:
    """Build the application for hosts of these `names` (none: any); `worker` does the work."""
    app = Flask(__name__)
    app.request_class = MemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES + FORM_OVERHEAD
    app.config["TRUSTED_HOSTS"] = names  # else any site could give this computer its own name
    app.json.sort_keys = False
    app.register_error_handler(Exception, _answer)
    app.after_request(_finish)
    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS}

    @app.get("/")
    def page():
        return render_template("index.html", analyst=analyst, **limits)

    @app.get("/openapi.yaml")
    def openapi():
        return Response(OPENAPI.read_text(encoding="utf-8"), mimetype="application/yaml")

    @app.post("/api/predict")
    def predict():
        content = _upload()
        whole, details = _flag("whole"), _flag("details")
        model = analyst.model(request.args.get("model"))
        gone = request.environ.get("waitress.client_disconnected", lambda: False)

        def job():  # decoded by the worker, so that only one large picture is in memory at a time
            return analyst.analyse(worker.decode(content), model, whole, details)

        return jsonify(worker.run(job, gone))

    @app.get("/healthz")
    def health():
        well = worker.alive and analyst.ready
        status = "ok" if well else "down" if analyst.ready else "starting"
        state = {"status": status, "models": list(analyst.models), "waiting": len(worker.waiting)}
        return jsonify(state), 200 if well else 503

    return app


def _upload() -> bytes:
    """The picture's file; refused where a page of another site sends it."""
    # Browsers say whether another site asks; older ones only name the page's origin.
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", f"://{request.host}").partition("://")[2]
    if site not in ("same-origin", "none") or origin != request.host:
        raise Refused(403, "cross_site", "Requests from other sites are not answered.")
    if len(uploads := request.files.getlist("image")) != 1:
        raise Refused(400, "no_image", "Send one picture as the form field 'image'.")
    return uploads[0].stream.getvalue()


def _flag(name: str) -> bool:
    value = request.args.get(name, "false").lower()
    if value not in ("true", "false"):
        raise Refused(400, "bad_parameter", f"{name} must be true or false.")
    return value == "true"


def _answer(error: Exception):
    """Any error as JSON; what was not foreseen is told to the console, never to the visitor."""
    if isinstance(error, RequestEntityTooLarge):
        error = Refused(*TOO_LARGE)
    elif isinstance(error, HTTPException):
        code = error.name.lower().replace(" ", "_")
        methods = getattr(error, "valid_methods", None)
        headers = {"Allow": ", ".join(methods)} if methods else {}
        error = Refused(error.code or 500, code, error.description, headers)
    elif not isinstance(error, Refused):
        log.error("unexpected error", exc_info=error)
        error = Refused(500, "internal", "Something went wrong here; the picture was not kept.")
    body = {"error": {"code": error.code, "message": str(error)}}
    return jsonify(body), error.status, error.headers


def _finish(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
