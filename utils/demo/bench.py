"""How long does an answer take? ``python -m utils.demo.bench`` times a running server's parts."""

import argparse
import io
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def photograph(side: int = 1000) -> bytes:
    """A JPEG of side x side pixels (1000: one megapixel) with one drawn face in it."""
    from PIL import Image

    from utils.datasets.synthetic import draw_face

    picture = Image.new("RGB", (side, side), (120, 140, 130))
    face = draw_face("synthetic/129/000004.png").resize((side // 2, side // 2))
    picture.paste(face, (side // 4, side // 4))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def seconds(app, content: bytes, query: str, repeats: int) -> list[float]:
    """Seconds of each answer of the application, from request to JSON."""
    client, taken = app.test_client(), []
    for _ in range(repeats):
        started = time.perf_counter()
        form = {"image": (io.BytesIO(content), "x.jpg")}
        response = client.post(f"/api/predict?{query}", data=form)
        taken.append(time.perf_counter() - started)
        if response.status_code != 200 or not response.json["faces"]:
            raise ValueError(f"expected a face, got {response.status_code} {response.json}")
    return taken


def main(argv=None) -> None:
    """Print the median and the slowest of some answers, for each model."""
    from utils.demo.__main__ import load_analyst
    from utils.demo.app import create_app
    from utils.demo.worker import Worker

    parser = argparse.ArgumentParser(prog="python -m utils.demo.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--photo", help="a picture of your own with a face in it")
    options = parser.parse_args(argv)
    content = open(options.photo, "rb").read() if options.photo else photograph()
    analyst = load_analyst()
    analyst.warm_up()
    app = create_app(analyst, Worker())
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in analyst.models:
        for details in ("false", "true"):
            query = f"model={name}&details={details}"
            taken = seconds(app, content, query, options.repeats)
            print(
                f"{query:32} median {statistics.median(taken):.2f} s, "
                f"slowest {max(taken):.2f} s, {len(taken)} answers"
            )


if __name__ == "__main__":
    main()
