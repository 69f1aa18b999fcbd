"""Start the demo: ``python -m utils.demo [--port N]``."""

import argparse
import logging
import signal
import sys


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; expected 0 to 65535")
    return int(text)


def arguments(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./run_all.sh demo", description=__doc__)
    parser.add_argument("--port", type=_port, default=8000, help="0 for any free one")
    parser.add_argument("--host", default="127.0.0.1", help="others open it to the network")
    parser.add_argument("--name", action="append", default=[], help="name that a proxy passes on")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    """Run until stopped; 0 if all went well."""
    options = arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # ignored by a container's first process
    try:
        # Here, so that --help needs neither Flask nor TensorFlow.
        from utils.demo.analysis import Analyst
        from utils.demo.server import listen, make_server, serve

        bound = listen(options.host, options.port)  # a taken port is told before models are loaded
        analyst = Analyst()
        server = make_server(analyst, bound, names=options.name)
    except (ImportError, OSError, ValueError) as error:
        lacks = "; install what the demo needs: pip install -e '.[demo]'"
        print(f"error: {error}{lacks * isinstance(error, ImportError)}", file=sys.stderr)
        return 2
    names = ", ".join(model.label for model in analyst.models.values())
    print(f"Models: {names}" + " (synthetic faces only)" * analyst.synthetic)
    host = f"[{options.host}]" if ":" in options.host else options.host
    if not server.effective_host.startswith(("127.", "::1")):
        print("Everybody in the network can reach this page; put a proxy with TLS before it.")
    print(f"Open http://{host}:{server.effective_port}/  (stop with Ctrl-C)", flush=True)
    serve(server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
