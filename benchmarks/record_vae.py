"""Record the VAE experiment at the paper's architecture on a GPU.

    python benchmarks/record_vae.py --data FOLDER --out collapse_utils/recorded/vae_mnist.json

Trains the released convolutional VAE on MNIST's 10,000 test images (FOLDER/MNIST/raw holds the
idx files) for every workflow and way of writing, one process per seed, and stores the numbers
with machine, date, commit and parameters. The book shows them as a recorded run.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

from collapse_utils import Accumulate, Mix, Replace, data, recurse
from collapse_utils.conv_vae import ConvVAE
from collapse_utils.metrics import ImageMetrics

CONDITIONS = {
    "replace": (Replace(), "mean"),
    "replace, noisy": (Replace(), "noisy"),
    "10 % real": (Mix(0.9, gamma=0.1), "mean"),
    "50 % real": (Mix(0.5, gamma=0.5), "mean"),
    "accumulate": (Accumulate(), "mean"),
}


def run(task):
    """All generations of one condition and seed."""
    condition, seed, folder, generations, epochs = task
    import torch

    torch.set_num_threads(2)
    workflow, sampling = CONDITIONS[condition]
    images, labels = data.mnist(folder, train=False)
    judge = ImageMetrics(images, labels, np.random.default_rng(0))

    def measure(snapshot):
        numbers = judge(snapshot)
        if snapshot.first_model is not None:
            # the paper's diagnostic: spread of codes under the first encoder, pooled
            numbers["latent_sd"] = snapshot.first_model.encode(snapshot.sample).std()
            numbers["loss"] = snapshot.model.loss_
        return numbers

    start = time.time()
    history = recurse(
        ConvVAE(sampling=sampling, epochs=epochs),
        images,
        workflow={condition: workflow},
        n_generations=generations,
        metrics={"measures": measure},
        n_eval=2000,
        rng=np.random.default_rng(seed),
    )
    frame = history.frame.assign(replicate=seed)
    return frame.to_dict("records"), time.time() - start, torch.cuda.get_device_name()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--commit", default="")
    args = parser.parse_args()
    commit = args.commit or subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    tasks = [
        (condition, seed, args.data, args.generations, args.epochs)
        for condition in sorted(CONDITIONS, key=lambda c: c != "accumulate")  # longest first
        for seed in range(args.seeds)
    ]
    start, records, seconds, device = time.time(), [], 0.0, ""
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for rows, spent, device in pool.imap_unordered(run, tasks):
            records += rows
            seconds += spent
            print(f"{rows[0]['workflow']} seed {rows[0]['replicate']}: {spent:.0f} s", flush=True)
            values = {}
            for row in sorted(records, key=lambda r: (r["replicate"], r["generation"])):
                key = values.setdefault(row["workflow"], {}).setdefault(row["metric"], {})
                key.setdefault(str(row["replicate"]), []).append(round(row["value"], 5))
            document = {
                "what": "released convolutional VAE, MNIST test part (10,000 images)",
                "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
                "commit": commit,
                "machine": f"{device}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "parameters": {
                    "generations": args.generations, "epochs": args.epochs, "batch_size": 256,
                    "latent": 20, "beta": 1, "n_samples": 10000, "n_eval": 2000,
                    "seeds": args.seeds,
                },
                "wall_seconds": round(time.time() - start),
                "values": values,
            }  # fmt: skip
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
