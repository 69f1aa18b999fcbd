"""The Flask application: a page, one endpoint that predicts, one that tells how it is."""

import io
import logging
from pathlib import Path

from flask import Flask, Request, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from utils.demo.analysis import Analyst
from utils.demo.pictures import MAX_BYTES, MAX_PIXELS, Refused, decode, too_many_bytes
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

    def _get_file_stream(
        self, total_content_length, content_type, filename=None, content_length=None
    ):
        return io.BytesIO()


def create_app(analyst: Analyst, worker: Worker) -> Flask:
    """Build the application.

    Parameters
    ----------
    analyst : Analyst
        With its models loaded.
    worker : Worker
        Does all decoding and predicting.
    """
    app = Flask(__name__)
    app.request_class = MemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES + FORM_OVERHEAD
    app.json.sort_keys = False
    _add_page(app, analyst)
    _add_api(app, analyst, worker)
    _add_errors(app)
    app.after_request(_finish)
    return app


def _add_page(app: Flask, analyst: Analyst) -> None:
    @app.get("/")
    def page():
        return render_template(
            "index.html",
            models=list(analyst.models.values()),
            missing=analyst.missing,
            synthetic=analyst.synthetic,
            max_bytes=MAX_BYTES,
            max_pixels=MAX_PIXELS,
        )

    @app.get("/openapi.yaml")
    def openapi():
        return Response(OPENAPI.read_text(), mimetype="application/yaml")


def _add_api(app: Flask, analyst: Analyst, worker: Worker) -> None:
    @app.post("/api/predict")
    def predict():
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise Refused(403, "cross_site", "Requests from other sites are not answered.")
        options = {
            "name": request.args.get("model"),
            "whole": _flag("whole"),
            "details": _flag("details"),
        }
        analyst.model(options["name"])  # an unknown name need not wait in the queue
        upload = request.files.get("image")
        if upload is None:
            raise Refused(400, "no_image", "Send one picture as the form field 'image'.")
        content = upload.stream.read(MAX_BYTES + 1)
        return jsonify(worker.run(_decode_and_analyse, analyst, content, **options))

    @app.get("/healthz")
    def health():
        well = worker.alive and analyst.ready
        state = {
            "status": "ok" if well else "starting" if worker.alive else "down",
            "models": list(analyst.models),
            "waiting": worker.waiting,
        }
        return jsonify(state), 200 if well else 503


def _decode_and_analyse(analyst: Analyst, content: bytes, **options) -> dict:
    # In the worker, so that only one large picture is in memory at a time.
    return analyst.analyse(decode(content), **options)


def _flag(name: str) -> bool:
    value = request.args.get(name, "false").lower()
    if value not in ("true", "false"):
        raise Refused(400, "bad_parameter", f"{name} must be true or false.")
    return value == "true"


def _add_errors(app: Flask) -> None:
    def answer(refused: Refused):
        response = jsonify({"error": {"code": refused.code, "message": str(refused)}})
        return response, refused.status, refused.headers

    app.register_error_handler(Refused, answer)

    @app.errorhandler(HTTPException)
    def http_error(error):
        if isinstance(error, RequestEntityTooLarge):
            return answer(too_many_bytes())
        code = (error.name or "error").lower().replace(" ", "_")
        headers = (
            {"Allow": ", ".join(error.valid_methods)}
            if getattr(error, "valid_methods", None)
            else {}
        )
        return answer(Refused(error.code or 500, code, f"{error.name}.", headers))

    @app.errorhandler(Exception)
    def unexpected(error):
        log.exception("unexpected error")  # to the console, never to the visitor
        return answer(
            Refused(500, "internal", "Something went wrong here; the picture was not kept.")
        )


def _finish(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
