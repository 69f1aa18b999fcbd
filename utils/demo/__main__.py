"""Start the demo: ``python -m utils.demo [--port N]``."""

import argparse
import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; expected 0 to 65535")
    return int(text)


def arguments(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./run_all.sh demo", description=__doc__)
    parser.add_argument("--port", type=_port, default=8000, help="0 for any free one")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; others than 127.0.0.1 open it to the network",
    )
    return parser.parse_args(argv)


def load_analyst():
    """Load the models at hand, or train one on drawn faces first."""
    from utils import models
    from utils.demo.analysis import Analyst
    from utils.demo.smoke import train_smoke_model

    if not models.available():
        print(
            "There is no trained model yet: training a small one on synthetic faces "
            "(about a minute) ...",
            flush=True,
        )
        train_smoke_model()
    analyst = Analyst()
    names = ", ".join(model.label for model in analyst.models.values())
    print(f"Models: {names}" + (" (synthetic faces only)" if analyst.synthetic else ""), flush=True)
    return analyst


def main(argv=None) -> int:
    """Run until interrupted; 0 if all went well."""
    options = arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        from utils.demo.server import make_server

        analyst = load_analyst()
        server = make_server(analyst, options.host, options.port)
    except ImportError as error:
        print(
            f"error: {error}; install what the demo needs: pip install -e '.[demo]'",
            file=sys.stderr,
        )
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {error}; with a taken port, choose another: --port N", file=sys.stderr)
        return 2
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"Open http://{host}:{server.effective_port}/  (stop with Ctrl-C)", flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
