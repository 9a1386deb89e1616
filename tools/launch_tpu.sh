#!/usr/bin/env bash
# Runs one command on every host of a Cloud TPU VM, a pod slice, or several slices.
#
#   TPU=NAME ZONE=us-east5-a tools/launch_tpu.sh create v5litepod-8    # or v5p-32, ...
#   TPU=NAME ZONE=us-east5-a tools/launch_tpu.sh install
#   TPU=NAME ZONE=us-east5-a tools/launch_tpu.sh train --config=configs/rstp.py --workdir=/mnt/shared/runs/rstp
#   TPU=NAME ZONE=us-east5-a tools/launch_tpu.sh stop | logs | delete
#
# train starts the program on every host in the background; the same line after a preemption
# continues the run. stop sends SIGTERM: the state is saved and all hosts end at the same step.
# --workdir must lie on a disk that all hosts share (Filestore, or a bucket mounted by Cloud Storage
# FUSE), prepared data too, or the same copy on every host.
# Set PROJECT for another than gcloud's own, VERSION for another runtime, SLICES=N for N slices named
# NAME-0 to NAME-(N-1).
set -euo pipefail

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }

[[ -n "${TPU:-}" && -n "${ZONE:-}" && $# -ge 1 ]] || usage
action=$1
shift
repository=$(cd "$(dirname "$0")/.." && pwd)
slices=${SLICES:-1}
[[ "$slices" =~ ^[1-9][0-9]*$ ]] || { echo "error: SLICES=$slices: expected a number from 1" >&2; exit 2; }
command -v gcloud >/dev/null || { echo "error: gcloud is not installed: cloud.google.com/sdk" >&2; exit 2; }
place=(--zone "$ZONE" ${PROJECT:+--project "$PROJECT"})
names=("$TPU")
if ((slices > 1)); then
  names=()
  for ((i = 0; i < slices; i++)); do names+=("$TPU-$i"); done
fi

everywhere() { # COMMAND: on every host of every slice, at the same time
  local waiting=() failed=0 i
  for i in "${!names[@]}"; do
    gcloud compute tpus tpu-vm ssh "${names[$i]}" "${place[@]}" --worker=all --command "${1//@SLICE@/$i}" &
    waiting+=($!)
  done
  for i in "${waiting[@]}"; do wait "$i" || failed=1; done
  return "$failed"
}

case "$action" in
  create)
    [[ $# -eq 1 ]] || usage
    for name in "${names[@]}"; do
      gcloud compute tpus tpu-vm create "$name" "${place[@]}" --accelerator-type "$1" \
        --version "${VERSION:-v2-alpha-tpuv5}"
    done
    ;;
  install)
    archive=$(mktemp --suffix .tar.gz)
    trap 'rm -f "$archive"' EXIT
    git -C "$repository" archive --format=tar.gz --output="$archive" HEAD
    for name in "${names[@]}"; do
      gcloud compute tpus tpu-vm scp "$archive" "$name:cada_jax.tar.gz" "${place[@]}" --worker=all
    done
    everywhere 'mkdir -p cada_jax && tar -xzf cada_jax.tar.gz -C cada_jax && cd cada_jax &&
      python3 -m venv .venv && .venv/bin/pip install --quiet -e ".[tpu]"'
    ;;
  train)
    [[ $# -ge 1 ]] || usage
    arguments=$(printf '%q ' "$@")
    # Several slices find each other at the first host of the first one.
    joined=""
    if ((slices > 1)); then
      first=$(gcloud compute tpus tpu-vm describe "${names[0]}" "${place[@]}" \
        --format='value(networkEndpoints[0].ipAddress)')
      joined="MEGASCALE_COORDINATOR_ADDRESS=$first:8081 MEGASCALE_NUM_SLICES=$slices MEGASCALE_SLICE_ID=@SLICE@"
    fi
    everywhere "cd cada_jax && ($joined nohup .venv/bin/python -m cada_jax.main --distributed $arguments \
      >> ~/cada_jax.log 2>&1 < /dev/null & echo \$! > ~/cada_jax.pid)"
    ;;
  stop) everywhere 'kill -TERM "$(cat ~/cada_jax.pid)"' ;;
  logs) everywhere 'tail -n 20 ~/cada_jax.log' ;;
  delete)
    for name in "${names[@]}"; do
      gcloud compute tpus tpu-vm delete "$name" "${place[@]}" --quiet
    done
    ;;
  *) usage ;;
esac
