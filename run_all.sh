#!/usr/bin/env bash
# Sets up what is missing and runs the whole study. See ./run_all.sh --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'HELP'
usage: ./run_all.sh [PROFILE] [options]         run a study
       ./run_all.sh test [pytest arguments]    run all tests
       ./run_all.sh demo [--port N]            the page that reads a face
       ./run_all.sh web                        build that page for the browser alone
       ./run_all.sh bench                      time the slow parts
       ./run_all.sh lint                       check style and format

A profile is a file in profiles/; one of your own there, mine.yaml, is run by its name: mine.
Without one: cpu or gpu where the real faces are in data/raw or FACES_DATA_DIR, else smoke.

  smoke      synthetic faces, a few minutes on two cores, no network
  cpu        the study on real faces, a night on a laptop
  gpu        the same at full size on one GPU
  paper      the two original protocols, setting by setting
  ablations  what each choice is worth: the runs that the published study lacks

  --backbones a,b    only these networks
  --seeds 1,2        these seeds, not those of the profile
  --only a,b         only these ablations (or: trainings, the repeats)
  --most-minutes N   leave longer ablations out
  --data PATH        a folder or an archive of faces, instead of FACES_DATA_DIR
  --dry-run          list the steps, done or to do, with their minutes, and stop
  --force            do everything again

A finished step is not done again: after a stop, run the same command to go on.
Environment: FACES_DATA_DIR (faces), FACES_WEIGHTS_DIR (ImageNet weights without a network),
FACES_WORK_DIR (caches and runs), PYTHON (which python makes .venv).
HELP
}

fail() {
  echo "error: $*" >&2
  exit 2
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; python3 here is $(python3 -V 2>&1 || true)." \
    "Install one, or name it: PYTHON=/path/to/python3.11 ./run_all.sh"
}

# Use the active environment; else make .venv.
set_up_python() {
  local found
  if [ -n "${VIRTUAL_ENV:-}" ] || [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
    PY="$(command -v python)"
    new_enough "$PY" || fail "the active environment has $("$PY" -V 2>&1); 3.11 or newer is needed"
  else
    if ! [ -x .venv/bin/python ]; then
      found="$(find_python)"
      echo "Making .venv with $("$found" -V) ..."
      "$found" -m venv .venv || fail "python cannot make .venv; on Debian: apt install python3-venv"
    fi
    PY="$PWD/.venv/bin/python"
    new_enough "$PY" || fail ".venv has $("$PY" -V 2>&1); remove .venv and run again"
  fi
  PATH="$(dirname "$PY"):$PATH"
}

# Install only if pyproject.toml changed since the last time in this environment. Where another
# backend has what a study needs there may be no network and no TensorFlow (docs/gpu.md).
install() { # command
  local prefix stamp
  prefix="$("$PY" -c 'import sys; print(sys.prefix)')"
  stamp="$prefix/.facial-demographics.toml"
  if cmp -s pyproject.toml "$stamp"; then return; fi
  if [ ! -e "$stamp" ] && [ "${KERAS_BACKEND:-tensorflow}" != tensorflow ] \
    && [ -f "profiles/${1:-smoke}.yaml" ] \
    && "$PY" -c 'import keras, snakemake, utils.report.step, utils.report.study' 2>/dev/null; then
    return
  fi
  echo "Installing the packages (a few minutes the first time) ..."
  "$PY" -m pip install --quiet --disable-pip-version-check -e '.[test]' \
    || fail "pip could not install the packages; its messages are above." \
      "For a machine without a network see docs/gpu.md"
  cp pyproject.toml "$stamp"
}

run_module() { # name, title, arguments
  local module="$1" title="$2"
  shift 2
  "$PY" -c "import importlib.util as u, sys; sys.exit(not u.find_spec('$module'))" 2>/dev/null \
    || fail "$title is not part of this copy: there is no module $module"
  exec "$PY" -m "$module" "$@"
}

case "${1:-}" in
  -h | --help | help)
    usage
    exit 0
    ;;
  test | demo | web | bench | lint | "" | -*) ;;
  *)
    if ! [ -f "profiles/$1.yaml" ]; then
      usage >&2
      fail "unknown command or profile '$1'"
    fi
    ;;
esac

# Keep freed memory for the next step: else glibc returns it, and half of a training on CPUs is
# spent clearing the same pages again.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184

set_up_python
install "${1:-}"

case "${1:-}" in
  test)
    shift
    exec "$PY" -m pytest -q --durations=10 "$@"
    ;;
  demo)
    shift
    run_module utils.demo "the demo" "$@"
    ;;
  web)
    shift
    export TF_CPP_MIN_LOG_LEVEL=3
    run_module utils.demo.web "the page" "$@"
    ;;
  bench)
    shift
    run_module utils.bench "the benchmark" "$@"
    ;;
  lint)
    "$PY" -m ruff check . && exec "$PY" -m ruff format --check .
    ;;
  *)
    exec "$PY" -m utils.report.study "$@"
    ;;
esac
