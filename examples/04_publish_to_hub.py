"""Publish a checkpoint on the Hugging Face Hub and load it back, pinned to its commit.

    hf auth login            # once; or set HF_TOKEN to a token with write access
    python examples/04_publish_to_hub.py YOUR_NAME/my-probe --folder FOLDER

FOLDER is what `huidurep finetune` or `model.save_pretrained` wrote; without it, the embedded tetrode checkpoint stands
in. The repository is private until you say --public. HF_ENDPOINT names another Hub than huggingface.co.
"""

import argparse

import numpy as np
from huggingface_hub import ModelCard

import huidurep


def spikes(num_spikes=32):
    """Troughs of different width and depth on four channels, uV."""
    rng = np.random.default_rng(0)
    time = np.arange(90) - 30
    width = rng.uniform(3, 8, (num_spikes, 1, 1))
    depth = rng.uniform(40, 200, (num_spikes, 1, 4))
    return (-depth * np.exp(-((time[None, :, None] / width) ** 2))).astype("float32")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", help="owner/name; made if there is none")
    parser.add_argument("--folder", default="tetrode", help="checkpoint folder")
    parser.add_argument("--license", default=None, help="such as apache-2.0, where the card names none")
    parser.add_argument("--public", action="store_true", help="let everybody see it")
    arguments = parser.parse_args()

    model = huidurep.HuiduRep.from_pretrained(arguments.folder)
    commit = model.push_to_hub(
        arguments.repository,
        license=arguments.license,
        private=not arguments.public,
        commit_message="Upload with examples/04_publish_to_hub.py",
    ).oid
    print(f"published {arguments.repository} at commit {commit}")

    # A branch moves when somebody pushes; a commit never does: name it in methods sections.
    again = huidurep.HuiduRep.from_pretrained(arguments.repository, revision=commit)
    difference = np.abs(model.embed(spikes()) - again.embed(spikes())).max()
    print(f"largest difference between embeddings before and after: {difference:g}")

    card = ModelCard.load(arguments.repository)
    print(f"licence on the card: {card.data.license}")
    print(f'sort with it: huidurep.sort(recording, model="{arguments.repository}", revision="{commit}")')


if __name__ == "__main__":
    main()
