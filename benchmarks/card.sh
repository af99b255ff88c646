#!/usr/bin/env bash
# Everything that is to be known about a CUDA GPU, in one command: benchmarks/card.sh
#
#   benchmarks/card.sh [--only PART] [--out FOLDER] [--minutes N] [--rehearse]
#
# Needs Python 3.11 or later with NumPy, CuPy, safetensors, tqdm, pytest and hypothesis; PyTorch, JAX
# and Nsight Compute are used where they are there. Nothing is installed and no setting of the card
# is touched. --rehearse runs every part at tiny sizes without a card. See benchmarks/card.py.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" benchmarks/card.py "$@"
